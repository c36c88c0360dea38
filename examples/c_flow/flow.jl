# A sketch: a flow's answers to refflow's requests in Julia. Run as: julia flow.jl REQUEST RESPONSE
# Bring forward(x) and inverse(y), x of size (D, rows), each returning (value, log_det).
request, response = ARGS
lines = split.(readlines(joinpath(request, "request.txt")))
D, _, rows64 = parse.(Int, lines[1][2:4])
numbers = reinterpret(Float64, read(joinpath(request, "x_float64.npy"))[129:end])
x = reshape(collect(numbers), D, rows64) # a row of C's order is a column of Julia's
value, logs = similar(x), zeros(rows64)
for (_, name, _, first, rows, _) in lines[2:end]
    own = parse(Int, first) .+ (1:parse(Int, rows))
    f = name == "forward" ? forward : inverse
    value[:, own], logs[own] = f(x[:, own])
end
write(joinpath(response, "value_float64.bin"), value)
write(joinpath(response, "log_float64.bin"), logs)
