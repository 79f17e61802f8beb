"""The request log: what it keeps, bit for bit, and that neither a crowd nor a disk costs a request its answer."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import request_logger
from request_logger import BEGAN, request

from registry.endpoints.answering import Logged
from registry.endpoints.request_log import LogBounds, RequestLog, read_requests
from registry.errors import InvalidInputError, MissingExtraError

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def _logged(folder: Path, *requests: Logged, bounds: LogBounds | None = None) -> RequestLog:
    """Log the requests, all of them, and close the log."""
    log = RequestLog(folder, share=1.0, bounds=bounds)
    for one in requests:
        log(one)
    log.close()
    return log


def _ids(folder: Path) -> list[int]:
    return [int(found) for found in read_requests(folder).column("id").to_pylist()]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_every_value_of_every_datatype_comes_back_exactly(tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"BOOL": np.array([[True, False]])}
    for bits in (8, 16, 32, 64):
        signed, unsigned = np.iinfo(f"int{bits}"), np.iinfo(f"uint{bits}")
        inputs[f"INT{bits}"] = np.array([[signed.min, signed.max]], f"int{bits}")
        inputs[f"UINT{bits}"] = np.array([[0, unsigned.max]], f"uint{bits}")
    for bits in (16, 32, 64):
        inputs[f"FP{bits}"] = np.array([[0.1, -np.finfo(f"float{bits}").max], [np.nan, -np.inf]], f"float{bits}")
    inputs["cube"] = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    inputs["turned"] = np.arange(6, dtype=np.float32).reshape(2, 3).T
    inputs["one number"] = np.array(7, np.int64)
    inputs["nothing"] = np.empty((0, 4), np.float32)
    outputs = {"y": np.array([0.25, 0.75], np.float32)}
    sent = replace(request(3), inputs=inputs, outputs=outputs, role="canary", protocol="grpc", version="1.0.0")
    _logged(tmp_path, sent)

    (row,) = read_requests(tmp_path).to_pylist()
    assert {name: row[name] for name in row if name not in {"inputs", "outputs"}} == {
        "time": BEGAN + timedelta(seconds=3),
        "id": "3",
        "model": "iris",
        "version": "1.0.0",
        "role": "canary",
        "protocol": "grpc",
        "latency_ms": 0.375,
        "error": None,
    }
    for expected, found in ((inputs, row["inputs"]), (outputs, row["outputs"])):
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name]["shape"] == list(array.shape)
            back = np.array(found[name]["data"], array.dtype).reshape(array.shape)
            assert back.tobytes() == np.ascontiguousarray(array).tobytes()


def test_the_columns_have_the_tensors_own_types(tmp_path: Path) -> None:
    _logged(tmp_path, request(1))
    schema = read_requests(tmp_path).schema
    assert str(schema.field("time").type) == "timestamp[us, tz=UTC]"
    assert (
        str(schema.field("inputs").type) == "struct<x: struct<shape: list<element: int64>, data: list<element: float>>>"
    )
    outputs = "struct<label: struct<shape: list<element: int64>, data: list<element: int64>>>"
    assert str(schema.field("outputs").type) == outputs


def test_requests_of_other_tensors_versions_and_outcomes_are_one_table_in_the_order_of_their_time(
    tmp_path: Path,
) -> None:
    failed = replace(request(2), id=None, outputs={}, error="the model could not run")
    second = replace(request(1), version="2", inputs={"x": np.ones((1, 4), np.float32), "mask": np.array([True])})
    _logged(tmp_path, request(3), failed, request(0), second)

    rows = read_requests(tmp_path).to_pylist()
    assert [row["id"] for row in rows] == ["0", "1", None, "3"]
    assert [row["error"] for row in rows] == [None, None, "the model could not run", None]
    assert rows[2]["outputs"] is None
    assert rows[0]["inputs"]["mask"] is None
    assert rows[1]["inputs"]["mask"] == {"shape": [1], "data": [True]}
    assert len(_files(tmp_path)) == 2  # one of each version
    assert read_requests(tmp_path, version="2").column("id").to_pylist() == ["1"]
    assert read_requests(tmp_path, model="other").num_rows == 0


def test_only_failed_requests_and_an_empty_log_are_tables_too(tmp_path: Path) -> None:
    _logged(tmp_path / "failed", replace(request(1), outputs={}, error="too late"))
    _logged(tmp_path / "empty")
    assert read_requests(tmp_path / "failed").to_pylist()[0]["outputs"] is None
    empty = read_requests(tmp_path / "empty")
    assert (empty.num_rows, empty.column_names) == (0, read_requests(tmp_path / "failed").column_names)


def test_a_tensor_whose_type_changed_is_kept_and_read_by_version(tmp_path: Path) -> None:
    half = replace(request(2), inputs={"x": np.ones((1, 4), np.float16)})
    other = replace(request(3), version="2", inputs={"x": np.ones((1, 4), np.int8)})
    assert _logged(tmp_path, request(1), half, other).written == 3
    assert len(_files(tmp_path)) == 3
    with pytest.raises(InvalidInputError, match=r"do not fit into one table.*Read one model and version at a time"):
        read_requests(tmp_path)
    assert read_requests(tmp_path, version="2").column("id").to_pylist() == ["3"]


def test_a_folder_that_is_not_there_is_not_an_empty_log(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no log of requests: there is no such folder"):
        read_requests(tmp_path / "log")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_share_is_kept_and_a_seed_draws_the_same_requests(tmp_path: Path, share: float) -> None:
    drawn = []
    for name in ("one", "other"):
        log = RequestLog(tmp_path / name, share=share, seed=5)
        for number in range(4000):
            log(request(number))
        log.close()
        assert (log.dropped, log.written) == (0, len(_ids(tmp_path / name)))
        drawn.append(_ids(tmp_path / name))
    assert drawn[0] == drawn[1]
    spread = (4000 * share * (1 - share)) ** 0.5  # of a binomial distribution; 4 of them are passed once in 16,000
    assert abs(len(drawn[0]) - 4000 * share) <= 4 * spread


def test_files_are_rolled_by_rows(tmp_path: Path) -> None:
    _logged(tmp_path, *(request(number) for number in range(25)), bounds=LogBounds(max_rows_per_file=10))
    assert sorted(pyarrow.parquet.read_metadata(path).num_rows for path in _files(tmp_path)) == [5, 10, 10]
    assert _ids(tmp_path) == list(range(25))


def test_files_are_rolled_by_time_also_while_requests_come(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, share=1.0, bounds=LogBounds(flush_s=0.1))
    until, number = time.monotonic() + 30.0, 0
    while len(list(tmp_path.glob("*.parquet"))) < 3:
        assert time.monotonic() < until
        log(request(number))
        number += 1
        time.sleep(0.005)
    log.close()
    assert _ids(tmp_path) == list(range(number))


def test_the_oldest_files_make_room_for_the_newest(tmp_path: Path) -> None:
    bounds = LogBounds(max_rows_per_file=10, max_bytes_total=20_000)
    log = _logged(tmp_path, *(request(number) for number in range(300)), bounds=bounds)
    kept = _ids(tmp_path)
    assert (log.written, log.dropped) == (300, 0)
    assert kept == list(range(kept[0], 300))
    assert 0 < kept[0] < 280
    assert sum(path.stat().st_size for path in _files(tmp_path)) <= 20_000


def test_a_file_larger_than_the_whole_log_may_be_leaves_the_others_where_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _logged(tmp_path, request(1))
    before = _files(tmp_path)
    noise = np.random.default_rng(0).random((1, 5000))
    log = _logged(tmp_path, replace(request(2), inputs={"x": noise}), bounds=LogBounds(max_bytes_total=10_000))
    assert (log.written, log.dropped) == (0, 1)
    assert "they are dropped and counted" in caplog.text
    assert _files(tmp_path) == before


def test_the_files_are_for_their_own_user_alone(tmp_path: Path) -> None:
    _logged(tmp_path / "log", request(1))
    (path,) = _files(tmp_path / "log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_requests_beyond_what_may_wait_are_dropped_and_counted_and_the_later_ones_kept(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, share=1.0, bounds=LogBounds(max_bytes_waiting=200_000))
    large = np.zeros((1, 10_000))  # 80 kB: two of them may wait
    for number in range(50):
        log(replace(request(number), inputs={"x": large}))
    log(replace(request(50), inputs={"x": np.zeros((1, 100_000))}))  # more than may ever wait
    assert log.dropped > 0
    until = time.monotonic() + 30.0
    while log.written + log.dropped < 51:
        assert time.monotonic() < until
        time.sleep(0.01)
    before = log.dropped
    log(replace(request(51), inputs={"x": large}))
    log.close()
    assert log.dropped == before
    assert _ids(tmp_path)[-1] == 51
    assert len(_ids(tmp_path)) == log.written == 52 - before


def test_threads_lose_nothing(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, share=1.0, bounds=LogBounds(max_rows_per_file=100))

    def send(first: int) -> None:
        for number in range(first, first + 500):
            log(request(number))

    threads = [threading.Thread(target=send, args=(500 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert _ids(tmp_path) == list(range(2000))
    assert (log.written, log.dropped) == (2000, 0)


def test_a_closed_log_takes_nothing_more_and_can_be_closed_again(tmp_path: Path) -> None:
    log = _logged(tmp_path, request(1))
    log(request(2))
    log.close()
    assert _ids(tmp_path) == [1]
    assert log.dropped == 1


def test_a_sample_of_a_batch_does_not_hold_the_batch(tmp_path: Path) -> None:
    batch = np.arange(40, dtype=np.float32).reshape(10, 4)
    log = RequestLog(tmp_path, share=1.0)
    log(replace(request(1), outputs={"y": batch[3:4]}))
    until = time.monotonic() + 30.0
    while sys.getrefcount(batch) > 2:  # this name, and the call's own
        assert time.monotonic() < until
        time.sleep(0.01)
    log.close()
    assert read_requests(tmp_path).to_pylist()[0]["outputs"]["y"] == {"shape": [1, 4], "data": [12, 13, 14, 15]}


def test_where_no_folder_can_be_made_requests_are_dropped_and_once_it_can_they_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    in_the_way = tmp_path / "log"
    in_the_way.write_text("a file")
    log = RequestLog(in_the_way, share=1.0, bounds=LogBounds(max_rows_per_file=1))
    for number in range(5):
        log(request(number))
    until = time.monotonic() + 30.0
    while log.dropped < 5:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert in_the_way.read_text() == "a file"
    in_the_way.unlink()
    log(request(5))
    log.close()
    assert (_ids(in_the_way), log.written, log.dropped) == ([5], 1, 5)
    told = [record.message for record in caplog.records]
    assert [line.partition(", they")[0] for line in told] == [
        f"requests cannot be logged in {in_the_way}",
        f"requests are logged in {in_the_way} again",
    ]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="only Linux mounts a disk for one process")
def test_a_full_disk_costs_log_lines_and_nothing_else(tmp_path: Path) -> None:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = [sys.executable, request_logger.__file__, "small-disk", str(tmp_path)]
    run = subprocess.run(
        ["unshare", "--mount", *user, *script],  # noqa: S607 - from PATH
        env=ENVIRONMENT, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["longest_s"] < 1.0
    assert told["left"] == []  # no half of a file took the space that was left
    assert (told["kept"], told["written"], told["dropped"]) == ([str(number) for number in range(10, 15)], 5, 10)


def test_a_killed_process_leaves_complete_files_and_what_it_did_not_finish_is_swept_later(tmp_path: Path) -> None:
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, request_logger.__file__, "without-end", str(tmp_path)],
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    table = read_requests(tmp_path)
    assert table.num_rows >= 600
    for row in table.to_pylist():
        assert row["inputs"]["x"] == {"shape": [1, 500], "data": [int(row["id"])] * 500}

    left, new = tmp_path / "20260101T000000000000Z-0.unfinished", tmp_path / "20260101T000000000001Z-0.unfinished"
    left.write_bytes(b"half a file")
    new.write_bytes(b"half a file")
    an_hour_ago = time.time() - 3600
    os.utime(left, (an_hour_ago, an_hour_ago))
    _logged(tmp_path)
    assert not left.exists()
    assert new.exists()  # another process may be writing it


def test_without_pyarrow_the_log_is_refused_with_the_name_of_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for use in (lambda: RequestLog(tmp_path / "log", share=1.0), lambda: read_requests(tmp_path)):
        with pytest.raises(
            MissingExtraError, match=r"pyarrow, which is not installed: pip install 'modelway\[monitoring"
        ):
            use()
    assert not (tmp_path / "log").exists()


def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[2].joinpath("docs/request-log.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    failed = replace(request(2), version="3", outputs={}, error="too late")
    _logged(tmp_path / "requests", replace(request(1), version="3"), failed, request(3))
    monkeypatch.chdir(tmp_path)
    exec(example, {})  # noqa: S102 - the page's own
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3
    assert "{'x': {'shape': [1, 4], 'data': [1.0, 1.0, 1.0, 1.0]}}" in told[0]
    assert told[-1] == "1 of them could not be answered"
    columns = read_requests(tmp_path / "requests").column_names
    assert [name for line in page.splitlines() if line.startswith("| `") for name in _first_cell(line)] == columns


def _first_cell(line: str) -> list[str]:
    return re.findall(r"`(\w+)`", line.split("|")[1])
