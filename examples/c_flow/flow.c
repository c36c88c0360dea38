/* A normalizing flow of four coordinates in C99, and its answers to refflow's requests.

   forward takes data x to z, which is standard normal: two affine couplings with a permutation between them,
       u = x,  u[2..3] = x[2..3] exp(s(x[0..1])) + t(x[0..1]),  v = u[1, 2, 3, 0],  z = the second coupling of v,
   with s and t from a tanh network of three hidden units. log|det dz/dx| is the sum of both couplings' s.

       gcc -std=c99 -O2 flow.c -o flow -lm && ./flow REQUEST RESPONSE

   -DFAULT=1 .. 8 plants a fault (grep FAULT); with none it is correct. Numbers are taken to be little-endian. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FAULT
#define FAULT 0
#endif
enum { D = 4, HALF = 2, HIDDEN = 3, HEADER = 128 };

typedef struct {
    double w1[HIDDEN][HALF], b1[HIDDEN], w2[2 * HALF][HIDDEN], b2[2 * HALF];
} Network;

static const Network networks[2] = {
    {{{0.75, -0.5}, {-1.0, 0.25}, {0.5, 1.25}}, {0.125, -0.25, 0.5},
     {{0.5, -0.75, 0.25}, {-0.25, 0.5, 1.0}, {1.5, 0.25, -0.5}, {-0.75, 1.0, 0.5}}, {0.25, -0.125, 0.5, -1.0}},
    {{{-0.25, 1.0}, {1.25, 0.5}, {0.75, -1.5}}, {-0.5, 0.25, 0.125},
     {{-1.0, 0.5, 0.5}, {0.75, 0.25, -0.5}, {0.5, -1.25, 0.25}, {1.0, 0.75, -0.25}}, {-0.25, 0.5, 0.75, 0.125}},
};
static const int permutation[D] = {1, 2, 3, 0};

/* s and t from the first half of a row */
static void conditioner(const Network *net, const double *u, double *s, double *t)
{
    static double out[2 * HALF];
    for (int k = 0; k < 2 * HALF; k++)
        if (FAULT != 5) /* 5: the sums go on from where the row before ended */
            out[k] = net->b2[k];
    for (int j = 0; j < HIDDEN; j++) {
        double h = tanh(net->b1[j] + net->w1[j][0] * u[0] + net->w1[j][1] * u[1]);
        for (int k = 0; k < 2 * HALF; k++)
            out[k] += net->w2[k][j] * h;
    }
    for (int k = 0; k < HALF; k++)
        s[k] = tanh(out[k]), t[k] = out[HALF + k];
}

static double coupling(const Network *net, double *u)
{
    double s[HALF], t[HALF], log_det = 0.0;
    conditioner(net, u, s, t);
    for (int k = 0; k < HALF; k++) {
        u[HALF + k] = u[HALF + k] * exp(s[k]) + t[k];
        log_det += s[k];
    }
    return log_det;
}

static double coupling_inverse(const Network *net, double *u)
{
    double s[HALF], t[HALF], log_det = 0.0;
    conditioner(net, u, s, t);
    for (int k = 0; k < HALF; k++) {
        u[HALF + k] = (u[HALF + k] - t[k]) * exp(-s[k]);
        log_det -= s[k];
    }
    return FAULT == 1 ? -log_det : log_det; /* 1: the sign of the inverse's log-determinant */
}

static double forward(const double *x, double *z)
{
    double u[D], log_det;
    memcpy(u, x, sizeof u);
    log_det = coupling(&networks[0], u);
    for (int k = 0; k < D; k++)
        z[k] = FAULT == 2 ? (float)u[permutation[k]] : u[permutation[k]]; /* 2: a float inside */
    double second = coupling(&networks[1], z);
    return FAULT == 3 ? log_det : log_det + second; /* 3: a layer is missing in the log-determinant */
}

static double inverse(const double *z, double *x)
{
    double u[D], log_det;
    memcpy(u, z, sizeof u);
    log_det = coupling_inverse(&networks[1], u);
    for (int k = 0; k < D; k++)
        if (FAULT == 4) /* 4: the permutation once more, not its inverse */
            x[k] = u[permutation[k]];
        else
            x[permutation[k]] = u[k];
    return log_det + coupling_inverse(&networks[0], x);
}

static double log_prob(const double *x)
{
    double z[D], log_det = forward(x, z), squares = 0.0;
    for (int k = 0; k < D; k++)
        squares += z[k] * z[k];
    return log_det - 0.5 * squares - 0.5 * D * log(FAULT == 8 ? 2.0 : 2.0 * acos(-1.0)); /* 8: no pi */
}

/* One call: its own rows, one after the other. */
static int answer(const char *function, long rows, const double *x, double *value, double *log_value)
{
    long end = FAULT == 6 && rows > 1 ? rows - 1 : rows; /* 6: the last row of a batch is left out */
    for (long i = 0; i < end; i++) {
        const double *row = x + i * D;
        if (FAULT == 7 && row[D - 1] != row[D - 1]) /* 7: a row with a NaN becomes one of zeros */
            log_value[i] = 0.0;
        else if (!strcmp(function, "forward"))
            log_value[i] = forward(row, value + i * D);
        else if (!strcmp(function, "inverse"))
            log_value[i] = inverse(row, value + i * D);
        else if (!strcmp(function, "log_prob"))
            log_value[i] = log_prob(row);
        else
            return 0;
    }
    return 1;
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, mode);
    if (!file)
        perror(path), exit(1);
    return file;
}

static void check(int fine, const char *what)
{
    if (!fine)
        fprintf(stderr, "flow: %s\n", what), exit(1);
}

/* All rows of one precision, as doubles. */
static double *read_numbers(const char *folder, const char *name, size_t count, int single)
{
    double *numbers = calloc(count + 1, sizeof *numbers);
    check(numbers != NULL, "out of memory");
    if (count == 0)
        return numbers;
    FILE *file = open_in(folder, name, "rb");
    fseek(file, HEADER, SEEK_SET);
    for (size_t i = 0; i < count; i++) {
        float f = 0.0f;
        size_t got = single ? fread(&f, sizeof f, 1, file) : fread(&numbers[i], sizeof numbers[i], 1, file);
        check(got == 1, "the request is cut short");
        if (single)
            numbers[i] = f;
    }
    fclose(file);
    return numbers;
}

static void write_numbers(const char *folder, const char *name, const double *numbers, size_t count, int single)
{
    FILE *file = open_in(folder, name, "wb");
    for (size_t i = 0; i < count; i++) {
        float f = (float)numbers[i];
        size_t put = single ? fwrite(&f, sizeof f, 1, file) : fwrite(&numbers[i], sizeof numbers[i], 1, file);
        check(put == 1, "the response cannot be written");
    }
    check(fclose(file) == 0, "the response cannot be written");
}

int main(int argc, char **argv)
{
    check(argc == 3, "expected two arguments, the folders of the request and of the response");
    long d, c, total[2], calls, id, first, rows, seed;
    char function[32], dtype[32];
    FILE *list = open_in(argv[1], "request.txt", "r"), *errors = open_in(argv[2], "errors.txt", "w");
    int fields = fscanf(list, "refflow-request-1 %ld %ld %ld %ld %ld", &d, &c, &total[0], &total[1], &calls);
    check(fields == 5 && d == D && c == 0, "expected a request of four coordinates without a context");
    double *x[2], *value[2], *log_value[2];
    for (int single = 0; single < 2; single++) {
        x[single] = read_numbers(argv[1], single ? "x_float32.npy" : "x_float64.npy", total[single] * D, single);
        value[single] = calloc(total[single] * D + 1, sizeof(double));
        log_value[single] = calloc(total[single] + 1, sizeof(double));
        check(value[single] && log_value[single], "out of memory");
    }
    while (fscanf(list, "%ld %31s %31s %ld %ld %ld", &id, function, dtype, &first, &rows, &seed) == 6) {
        int k = !strcmp(dtype, "float32");
        if (!answer(function, rows, x[k] + first * D, value[k] + first * D, log_value[k] + first))
            fprintf(errors, "%ld this flow has no %s\n", id, function);
    }
    for (int single = 0; single < 2; single++) {
        const char *names[2] = {single ? "value_float32.bin" : "value_float64.bin",
                                single ? "log_float32.bin" : "log_float64.bin"};
        write_numbers(argv[2], names[0], value[single], total[single] * D, single);
        write_numbers(argv[2], names[1], log_value[single], total[single], single);
    }
    return fclose(errors) != 0;
}
