"""Tables in and out, quantisation steps, streamed scores, and the split of a task."""

import io

import numpy as np
import pytest

from refflow.errors import DataError
from refflow.scoring import Score
from refflow.streams import RunningScore, row_writer
from refflow.tables import Table, quantisation_steps, read_blocks, read_table, tied_columns, write_rows
from refflow.tasks import digits_task, table_task

X = np.array([[1.0, -2.5], [3.0, 1e-300], [0.1 + 0.2, 1e300]])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "first column,b"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_csv_of_any_dialect_reads_back_to_the_same_bits(tmp_path, separator, header, ending):
    text = io.StringIO()
    write_rows(text, X, header.split(",") if header else ())
    path = tmp_path / "t.csv"
    path.write_bytes(text.getvalue().replace(",", separator).replace("\n", ending).encode("utf-8-sig"))
    table = read_table(str(path))
    assert np.array_equal(table.values, X)
    assert table.columns == (("first column", "b") if header else ())


def test_quoted_cells_and_blank_lines_are_fine(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('"a","b, c"\n\n"1","2"\n\n3,4\n\n')
    table = read_table(str(path))
    assert table.columns == ("a", "b, c")
    assert np.array_equal(table.values, [[1.0, 2.0], [3.0, 4.0]])


def test_blocks_join_to_the_table(tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 3))
    np.save(tmp_path / "t.npy", x)
    with (tmp_path / "t.csv").open("w") as stream:
        write_rows(stream, x, "abc")
    for name, columns in (("t.npy", ()), ("t.csv", ("a", "b", "c"))):
        blocks = list(read_blocks(str(tmp_path / name), rows=7))
        assert len(blocks) == 8
        assert all(block.columns == columns for block in blocks)
        assert np.array_equal(np.concatenate([b.values for b in blocks]), x)


def test_bad_cells_in_later_blocks_are_named_by_their_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 20 + "3,oops\n")
    with pytest.raises(DataError, match="'oops' on line 22, column 1"):
        list(read_blocks(str(path), rows=6))


def test_events_of_npy_files_are_flattened(tmp_path):
    x = np.arange(24.0).reshape(4, 3, 2)
    np.save(tmp_path / "t.npy", x)
    assert np.array_equal(read_table(str(tmp_path / "t.npy")).values, x.reshape(4, 6))


def test_columns_by_name_and_number():
    table = Table(np.arange(6.0).reshape(2, 3), ("a", "b", "7"))
    assert table.column_numbers(["b", "0", "7"]) == [1, 0, 2]
    assert table.without([1]).columns == ("a", "7")
    assert np.array_equal(table.columns_named(["7", "a"]).values, [[2.0, 0.0], [5.0, 3.0]])
    with pytest.raises(DataError, match="expected a column among a, b, 7, got 'c'"):
        table.column_numbers(["c"])


def test_steps_of_grids_are_found_and_continuous_columns_left():
    rng = np.random.default_rng(0)
    columns = [
        rng.integers(0, 9, 300),
        rng.integers(0, 9, 300) / 100,
        rng.normal(size=300),
        rng.integers(0, 2, 300) / 3,
    ]
    x = np.column_stack(columns)
    assert quantisation_steps(x) == (1.0, 0.01, 0.0, 0.0)
    assert tied_columns(x, quantisation_steps(x)) == [3]
    assert quantisation_steps(rng.integers(0, 10**9, (300, 1))) == (1.0,)  # integers, though none repeats


def test_a_table_is_split_by_its_seed_and_no_row_is_lost():
    x = np.random.default_rng(0).normal(size=(100, 2))
    first, again, other = (table_task(Table(x), "t", seed=s) for s in (0, 0, 1))
    parts = [first.train.x, first.validation.x, first.test.x]
    assert [len(p) for p in parts] == [80, 10, 10]
    assert np.array_equal(np.sort(np.concatenate(parts)[:, 0]), np.sort(x[:, 0]))
    assert np.array_equal(first.test.x, again.test.x)
    assert not np.array_equal(first.test.x, other.test.x)


def test_context_columns_leave_the_table():
    x = np.random.default_rng(0).normal(size=(50, 3))
    task = table_task(Table(x, ("a", "b", "c")), "t", seed=0, context=["c", "a"])
    assert task.columns == ("b",)
    assert task.context_columns == ("c", "a")
    every = np.concatenate([p.context for p in (task.train, task.validation, task.test)])
    assert np.array_equal(np.sort(every[:, 0]), np.sort(x[:, 2]))


def test_the_digits_are_split_in_file_order():
    task = digits_task()
    assert [len(p) for p in (task.train, task.validation, task.test)] == [1293, 144, 360]
    assert task.train.x.min() == 0
    assert task.train.x.max() == 16
    assert task.train.x.shape[1] == 64


def test_running_scores_are_those_of_all_rows():
    values = np.random.default_rng(0).normal(1e6, 1.0, 1000)
    running = RunningScore()
    for piece in np.split(values, [1, 10, 10, 400]):
        running.add(Score(piece, 2, False, 0.0))
    found, whole = running.report(), Score(values, 2, False, 0.0)
    assert found["rows"] == 1000
    assert found["mean_nats"] == pytest.approx(whole.mean, rel=1e-14)
    assert found["standard_error_nats"] == pytest.approx(whole.standard_error, rel=1e-9)
    assert found["bits_per_dim"] is None


def test_rows_written_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "s.csv"

    def interrupted():
        with row_writer(str(path)) as write:
            write(np.zeros(3))
            raise KeyboardInterrupt

    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    with row_writer(str(path)) as write:
        write(np.array([0.5]))
        write(np.array([1.0]))
    assert path.read_text() == "log_prob\n0.5\n1\n"
