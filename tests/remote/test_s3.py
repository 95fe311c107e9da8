"""A bucket on this machine (moto): the walk from cohort to report by URL, and what goes wrong with a store."""

from __future__ import annotations

import concurrent.futures
import http.server
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from volseg.cli import main
from volseg.cohort import Cohort
from volseg.errors import RemoteError
from volseg.remote import mirror, writing
from volseg.remote.listing import list_items

pytest.importorskip("s3fs", reason="pip install 'volseg[s3]'")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")

SECRET = "wJalrXUtnFEMIK7MDENG"
KEY_ID = "AKIAEXAMPLEONLY"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of buckets on loopback, at a free port."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def environment(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Credentials and endpoint as a user sets them, and a cache of the test's own."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "NO_PROXY": "127.0.0.1",
        "VOLSEG_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Any]:
    """An empty bucket called data, by the client of AWS itself."""
    import boto3

    made = boto3.resource("s3", endpoint_url=endpoint).Bucket("data")
    made.create()
    yield made
    made.objects.delete()
    made.delete()


def put(bucket: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put_object(Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())


def names(bucket: Any) -> set[str]:
    return {item.key for item in bucket.objects.all()}


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """A command's exit code and all that it printed."""
    capfd.readouterr()
    try:
        main(list(words))
        code = 0
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    told = capfd.readouterr()
    return code, told.out + told.err


def test_a_cohort_is_copied_and_kept_up_to_date(bucket: Any, tiny_cohort: Path) -> None:
    put(bucket, tiny_cohort, "cohort")
    for marker in ("cohort/", "cohort/labelsTr/"):  # as consoles make them for folders
        bucket.put_object(Key=marker, Body=b"")
    bucket.put_object(Key="cohort-2/dataset.json", Body=b"of a neighbour")
    opened = Cohort.open("s3://data/cohort")
    assert opened.digest == Cohort.open(tiny_cohort).digest
    for key in opened.keys:
        assert opened.image_paths(key)[0].read_bytes() == (tiny_cohort / f"imagesTr/{key}_0000.nii.gz").read_bytes()
    came: list[int] = []
    mirror("s3://data/cohort", progress=lambda done, _: came.append(done))
    assert came == []
    bucket.put_object(Key="cohort/splits.json", Body=b"[]")
    bucket.Object("cohort/labelsTr/case4_day0.nii.gz").delete()
    copy = mirror("s3://data/cohort", progress=lambda done, _: came.append(done))
    assert came[-1] == 2
    assert (copy / "splits.json").read_bytes() == b"[]"
    assert not (copy / "labelsTr/case4_day0.nii.gz").exists()
    assert (copy / "labelsTr/case3_day0.nii.gz").exists()


def test_a_name_that_s3fs_takes_for_a_version_of_another_is_refused(bucket: Any) -> None:
    """Its copy had the bytes of `a.txt`, and to remove it removed `a.txt`."""
    bucket.put_object(Key="files/a.txt", Body=b"right")
    bucket.put_object(Key="files/a.txt?versionId=5", Body=b"other")
    with pytest.raises(RemoteError, match=r"'a.txt\?versionId=5' holds .* rename it there"):
        mirror("s3://data/files")


def test_an_empty_object_that_stands_for_a_folder_is_none_of_the_files(bucket: Any, tiny_cohort: Path) -> None:
    """It ended with a FileExistsError or an IsADirectoryError, whichever came first."""
    put(bucket, tiny_cohort, "cohort")
    bucket.put_object(Key="cohort/labelsTr", Body=b"")
    assert Cohort.open("s3://data/cohort").digest == Cohort.open(tiny_cohort).digest
    bucket.put_object(Key="cohort/labelsTr", Body=b"notes")
    with pytest.raises(RemoteError, match="labelsTr is a file of 5 bytes and a folder of others; rename one of them"):
        mirror("s3://data/cohort")


def test_a_process_that_was_killed_goes_on_where_it_was(bucket: Any, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(2**20)
    bucket.put_object(Key="big/file.bin", Body=content)
    code = (
        "import os, sys; from volseg.remote import mirror; "
        "mirror('s3://data/big', chunk=2**16, progress=lambda done, _: os._exit(9) if done > 2**19 else None)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 9
    (part,) = (tmp_path / "cache").rglob("parts/*")
    before = part.stat().st_size
    assert before >= 2**19 - 2**16
    came: list[int] = []
    copy = mirror("s3://data/big", chunk=2**16, progress=lambda done, _: came.append(done))
    assert came[0] == before
    assert len(came) == 1 + (len(content) - before) // 2**16
    assert (copy / "file.bin").read_bytes() == content


def test_an_object_that_was_sent_in_parts_is_read(bucket: Any, endpoint: str, tmp_path: Path) -> None:
    import boto3
    from boto3.s3.transfer import TransferConfig

    content = bytes(range(256)) * (6 * 4096)
    (tmp_path / "big").write_bytes(content)
    least = 5 * 2**20
    client = boto3.client("s3", endpoint_url=endpoint)
    config = TransferConfig(multipart_threshold=least, multipart_chunksize=least)
    client.upload_file(str(tmp_path / "big"), "data", "big/file.bin", Config=config)
    assert "-" in client.head_object(Bucket="data", Key="big/file.bin")["ETag"]
    assert (mirror("s3://data/big", chunk=2**20) / "file.bin").read_bytes() == content
    assert mirror("s3://data/big/file.bin").read_bytes() == content


def test_what_is_written_is_there_and_a_removed_file_is_not(bucket: Any) -> None:
    with writing("s3://data/out/predictions") as place:
        (place.folder / "a.nii.gz").write_bytes(b"a")
        (place.folder / "b.nii.gz").write_bytes(b"b")
    assert names(bucket) == {"out/predictions/a.nii.gz", "out/predictions/b.nii.gz"}
    with writing("s3://data/out/predictions") as place:
        assert place.fetched == ()
        (place.folder / "a.nii.gz").unlink()
        (place.folder / "b.nii.gz").write_bytes(b"new")
    assert names(bucket) == {"out/predictions/b.nii.gz"}
    assert bucket.Object("out/predictions/b.nii.gz").get()["Body"].read() == b"new"


@pytest.mark.slow
def test_the_walk_by_url_goes_on_elsewhere_and_tells_no_secret(
    bucket: Any,
    tiny_cohort: Path,
    tmp_path: Path,
    environment: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tiny_bundle import write_bundle, write_checkpoint

    caplog.set_level("INFO")
    labels = Cohort.open(tiny_cohort).labels
    bundle = write_bundle(tmp_path / "bundle")
    checkpoint = write_checkpoint(tmp_path / "model.pt", labels)
    told = []

    code, text = run(capfd, "convert", "decathlon", str(tiny_cohort), "s3://data/cohort")
    told.append(text)
    assert (code, "5 written" in text) == (0, True), text
    assert {f"cohort/imagesTr/case{n}_day0_0000.nii.gz" for n in range(5)} <= names(bucket)
    code, text = run(capfd, "check", "s3://data/cohort")
    told.append(text)
    assert code == 0, text

    predict = ["predict", str(bundle), "s3://data/cohort", "-o", "s3://data/predictions"]
    predict += ["--checkpoint", str(checkpoint), "--device", "cpu", "--engine", "torch"]
    code, text = run(capfd, *predict)
    told.append(text)
    assert (code, "5 predicted, 0 failed" in text) == (0, True), text
    files = {f"predictions/case{n}_day0.nii.gz" for n in range(5)}
    assert files | {"predictions/run_report.json", "predictions/.volseg/predict.jsonl"} <= names(bucket)

    # Another machine: nothing of it is here, one prediction is lost and one input has changed.
    environment.setenv("VOLSEG_CACHE", str(tmp_path / "another machine"))
    bucket.Object("predictions/case0_day0.nii.gz").delete()
    image = bucket.Object("cohort/imagesTr/case1_day0_0000.nii.gz")
    other = bucket.Object("cohort/imagesTr/case2_day0_0000.nii.gz").get()["Body"].read()
    image.put(Body=other)
    code, text = run(capfd, *predict)
    told.append(text)
    assert (code, "2 predicted, 3 finished before, 0 failed" in text) == (0, True), text
    assert files <= names(bucket)

    code, text = run(capfd, "evaluate", "s3://data/predictions", "s3://data/cohort", "-o", "s3://data/report")
    told.append(text)
    assert code == 0, text
    assert {f"report/{name}" for name in ("cases.csv", "summary.json", "report.md", "report.html")} <= names(bucket)
    code, text = run(capfd, *predict[:4], "s3://data/cohort/predictions", *predict[5:])
    assert (code, "lie in one another" in text) == (2, True), text

    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    written += [item.get()["Body"].read() for item in bucket.objects.all()]
    for secret in (SECRET, KEY_ID):
        assert not [text for text in [*told, caplog.text] if secret in text]
        assert not [content for content in written if secret.encode() in content]


@pytest.mark.slow
def test_a_training_takes_a_url(
    bucket: Any, tiny_cohort: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tiny_bundle import write_bundle

    put(bucket, tiny_cohort, "cohort")
    settings = ["--dataset_dir", "s3://data/cohort", "--output_dir", str(tmp_path / "run"), "--device", "cpu"]
    code, text = run(capfd, "train", str(write_bundle(tmp_path / "bundle")), *settings, "--dry")
    assert (code, "the checks passed" in text) == (0, True), text


# --- what goes wrong


def test_a_bucket_or_folder_that_is_not_there_is_told(bucket: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code, text = run(capfd, "check", "s3://no-such-bucket/cohort")
    assert (code, "there is no bucket no-such-bucket" in text) == (2, True), text
    code, text = run(capfd, "check", "s3://data/no-such-cohort")
    assert (code, "there is nothing of this name" in text) == (2, True), text
    code, text = run(capfd, "split", "s3://data/cohort")
    assert (code, "volseg split takes folders; `volseg check URL` makes a copy" in text) == (2, True), text
    with pytest.raises(RemoteError, match="there is no bucket no-such-bucket"), writing("s3://no-such-bucket/out"):
        pass
    assert "Traceback" not in text


def test_no_credentials_is_told(bucket: Any, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        environment.delenv(name)
    with pytest.raises(RemoteError, match=r"no credentials were found in the environment; set AWS_PROFILE"):
        mirror("s3://data/cohort")
    bucket.put_object(Key="cohort/a", Body=b"public", ACL="public-read")
    environment.setenv("FSSPEC_S3_ANON", "true")  # read when fsspec is imported
    code = "from volseg.remote import mirror; print((mirror('s3://data/cohort') / 'a').read_bytes())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "b'public'\n", done.stderr


def test_a_store_that_is_not_there_is_told(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RemoteError, match="cannot be reached; check the network, and AWS_ENDPOINT_URL"):
        mirror("s3://data/cohort")


def test_a_denied_access_is_told(environment: pytest.MonkeyPatch) -> None:
    answer = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

    class Denied(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(answer)

        do_HEAD = do_GET  # noqa: N815 - as the server looks it up

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denied) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(
            RemoteError, match=r"access was denied \(.+\); the credentials in the environment lack the right"
        ):
            mirror("s3://data/cohort")
        server.shutdown()


@pytest.mark.parametrize("there", [True, False])
def test_whoever_may_look_into_one_folder_alone_may_write_there(there: bool) -> None:
    """A policy with a condition on s3:prefix forbids to ask for the bucket, and to list all of it."""

    class OneFolder:
        """The file system of somebody who may list `data/mine/` and nothing else."""

        protocol = ("s3", "s3a")

        def find(self, _: str, *, detail: bool) -> dict[str, Any]:
            return {}

        def exists(self, _: str) -> bool:
            raise PermissionError("Forbidden")

        def call_s3(self, _: str, **asked: object) -> dict[str, Any]:
            assert asked == {"Bucket": "data", "Prefix": "mine/", "MaxKeys": 1}
            if there:
                return {"KeyCount": 0}
            raise FileNotFoundError("The specified bucket does not exist")

    if there:
        assert list_items(OneFolder(), "data/mine", url="s3://data/mine") == {}
        return
    with pytest.raises(RemoteError, match="s3://data/mine: there is no bucket data; check the name"):
        list_items(OneFolder(), "data/mine", url="s3://data/mine")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("ExpiredToken", r"are valid no longer \(as the store says\); renew them"),
        ("RequestTimeTooSkewed", r"refuses the clock of this machine \(as the store says\); set the clock"),
        ("AuthorizationHeaderMalformed", r"in another region \(as the store says\); set AWS_DEFAULT_REGION"),
        ("InvalidObjectState", r"access was denied \(as the store says\)"),
    ],
)
def test_what_a_store_says_has_its_own_cure(code: str, told: str) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    from volseg.remote.messages import told as telling

    answer = ClientError({"Error": {"Code": code, "Message": "as the store says"}}, "ListObjectsV2")
    with pytest.raises(RemoteError, match=told), telling("s3://data/cohort"):
        raise translate_boto_error(answer)


def test_a_profile_and_an_endpoint_that_are_mistyped_are_told(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9000")
    with pytest.raises(RemoteError, match=r"AWS_ENDPOINT_URL must be a URL such as https://"):
        mirror("s3://data/cohort")
    environment.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RemoteError, match=r"\(nobody\) could not be found; correct AWS_PROFILE"):
        mirror("s3://data/cohort")


def test_a_folder_that_was_emptied_behind_the_url_is_empty_here(bucket: Any, tiny_cohort: Path) -> None:
    with writing("s3://data/cohort") as place:
        shutil.copytree(tiny_cohort, place.folder, dirs_exist_ok=True)
    bucket.objects.delete()
    with writing("s3://data/cohort") as place:
        assert list(place.folder.iterdir()) == []


def test_names_with_signs_of_urls_go_there_and_back(bucket: Any) -> None:
    content = {
        name: name.encode()
        for name in ("a b", "a#1", "a+b", "a%20b", "a%b", "a&b=c", "a*[b]", "M\u00fcller", "\u60a3/1")
    }
    with writing("s3://data/stu dy#1/\u00c4+%2F") as place:
        for name, text in content.items():
            (place.folder / name).parent.mkdir(exist_ok=True)
            (place.folder / name).write_bytes(text)
    assert names(bucket) == {f"stu dy#1/\u00c4+%2F/{name}" for name in content}
    copy = mirror("s3://data/stu dy#1/\u00c4+%2F")
    assert {p.relative_to(copy).as_posix(): p.read_bytes() for p in copy.rglob("*") if p.is_file()} == content
    assert mirror("s3://data/stu dy#1/\u00c4+%2F/a%20b").read_bytes() == b"a%20b"


def test_a_listing_of_several_pages_is_whole(bucket: Any) -> None:
    numbers = range(1003)  # a page has 1000
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: bucket.put_object(Key=f"many/{number:04d}", Body=b""), numbers))
    import fsspec

    file_system = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    assert set(list_items(file_system, "data/many", url="s3://data/many")) == {f"{number:04d}" for number in numbers}


def test_of_two_versions_the_latest_is_read(bucket: Any) -> None:
    bucket.Versioning().enable()
    for text in (b"first", b"second"):
        bucket.put_object(Key="cohort/a", Body=text)
    bucket.put_object(Key="cohort/b", Body=b"b")
    bucket.Object("cohort/b").delete()
    copy = mirror("s3://data/cohort")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {"a": b"second"}
    latest = next(one for one in bucket.object_versions.filter(Prefix="cohort/a") if one.is_latest)
    latest.delete()
    assert (mirror("s3://data/cohort") / "a").read_bytes() == b"first"
    bucket.object_versions.delete()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["predict", "unet", "s3://b/c", "-o", "out", "--checkpoint", "s3://b/model.pt"],
            "--checkpoint must name what",
        ),
        (["predict", "unet", "s3://b/c", "-o", "out", "--with=unet=s3://b/model.pt"], "--with must name what lies on"),
        (["crossval", "unet", "s3://b/c", "-o", "s3://b/cv"], "takes URLs for its data alone"),
        (["plan", "s3://b/c", "--output", "s3://b/plan"], "--output must name what lies on this machine"),
        (
            ["train", "unet", "--dataset_dir", "s3://b/c", "--output_dir", "s3://b/r"],
            "takes URLs for --dataset_dir alone",
        ),
        (["evaluate", "p", "c", "-o", "s3:/b/report"], "has one slash and is no URL; write s3://b/report"),
        (["quality", "s3://b/p"], "volseg quality takes folders"),
    ],
)
def test_no_folder_is_made_of_a_url(
    words: list[str], told: str, tmp_path: Path, environment: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    environment.chdir(tmp_path)
    code, text = run(capfd, *words)
    assert (code, told in text) == (2, True), text
    assert list(tmp_path.iterdir()) == []


def test_a_flag_before_a_url_is_none_of_its_option(capfd: pytest.CaptureFixture[str]) -> None:
    code, text = run(capfd, "evaluate", "--no-html", "s3://no-such-bucket/p", "s3://no-such-bucket/c", "-o", "report")
    assert (code, "there is no bucket" in text) == (2, True), text


def test_libraries_below_say_nothing_of_their_own(bucket: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from volseg.cli import main; main()", "check", "s3://data/nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == "volseg: s3://data/nothing: there is nothing of this name; check bucket and folder\n"


def test_a_cache_can_be_removed_at_any_time(bucket: Any, tiny_cohort: Path, tmp_path: Path) -> None:
    put(bucket, tiny_cohort, "cohort")
    first = mirror("s3://data/cohort")
    shutil.rmtree(tmp_path / "cache")
    assert mirror("s3://data/cohort") == first
    assert (first / "dataset.json").is_file()
