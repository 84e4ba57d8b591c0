"""Sessions that run an ONNX graph. No other module of imgret imports onnxruntime."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import InvalidInputError, ModelError
from imgret.models.external import locations
from imgret.models.limits import check_limits
from imgret.support.locks import ReadWriteLock, RLock, renew_in_child
from imgret.support.overlaid import one_owner

# From 1.32 on, onnxruntime looks up a host for telemetry, and writes a device ID and a database of
# events below the user's cache directory. It reads this variable when it is loaded; set it to 0
# beforehand to allow telemetry.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

with one_owner("onnxruntime", package="onnxruntime"):
    import onnxruntime as ort  # after the variable is set

__all__ = ["Session", "Tensor", "available_providers", "batch_size", "short_name"]

_log = logging.getLogger(__name__)
_DEFAULT_PROVIDERS = ("CPUExecutionProvider",)
_DTYPES = {
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
}


# Short names of execution providers.
_SHORT = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
    "rocm": "ROCMExecutionProvider",
}
_LONG = {provider: name for name, provider in _SHORT.items()}
# Images per run for each provider. On two cores the network of `general` is as fast with batches of
# 1 as of 4, and a fifth slower with 16; a folder is added at 710 images/s with 1, at 665 with 4
# (medians of 5 runs each). A GPU has far more cores than one image keeps busy.
_BATCH = {
    "CPUExecutionProvider": 1,
    "CUDAExecutionProvider": 32,
    "TensorrtExecutionProvider": 32,
    "ROCMExecutionProvider": 32,
    "DmlExecutionProvider": 32,
}
_OTHER_BATCH = 16
# By default cuDNN times every algorithm of a convolution for each new shape. Shapes change often
# here, as queries come alone and the last batch of a folder is short; so it is asked to estimate.
_OPTIONS = {"CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"}}
# Large weights are read from memory once per run: a ViT-B/32 (350 MB) takes 101 ms of processor
# time per image in batches of 1, 91 in batches of 4, 92 of 8 and 93 of 16; one in 8 bits (88 MB)
# takes 70, 64, 62 and 66 (medians of 5 turns).
_LARGE_BATCH = 4
# A run of one batch that takes longer is ended; how often one looks for it.
_RUN_SECONDS, _LOOK_SECONDS = 600.0, 1.0
# Option for the folder of the weights that a graph given as bytes keeps in other files.
_WEIGHTS_IN = "session.model_external_initializers_file_folder_path"


class Tensor(NamedTuple):
    """An input or output of a graph.

    Attributes
    ----------
    name : str
    dtype : str
        NumPy's name of the type, or onnxruntime's if it is not a type that imgret feeds.
    shape : tuple of int or None
        None along an axis of any length.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def available_providers() -> list[str]:
    """Return the execution providers of this build of onnxruntime, by name."""
    return list(ort.get_available_providers())


def short_name(provider: str) -> str:
    """Return the short name of an execution provider, or its own if it has none."""
    return _LONG.get(provider, provider)


def batch_size(providers: Sequence[str], *, large: bool = False) -> int:
    """Return the number of images per run that suits execution providers, the first one most.

    Parameters
    ----------
    providers : sequence of str
    large : bool
        Whether the weights are far larger than a processor's cache.

    Returns
    -------
    int
        32 for a GPU, 16 for another device; for the CPU 4 if the weights are large, else 1.
    """
    first = _SHORT.get(providers[0].casefold(), providers[0])
    found = _BATCH.get(first, _OTHER_BATCH)
    return max(found, _LARGE_BATCH) if large else found


def _session_options(providers: Sequence[str]) -> ort.SessionOptions:
    """Return the options of a session that runs in one thread, as its providers need them.

    Parameters
    ----------
    providers : sequence of str
        Full names.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised instead
    if "DmlExecutionProvider" in providers:  # it has neither, and says so at each start
        options.enable_mem_pattern = False
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    return options


def _with_options(providers: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Return each provider with the options it is started with, as onnxruntime takes them."""
    return [(name, _OPTIONS.get(name, {})) for name in providers]


@final
class Session:
    """A loaded graph with one input.

    Arrays are copied to a device and back by each run. Binding them there beforehand would save
    nothing, as every image is used once and its embedding is wanted here: see
    ``docs/decisions/0030-folders-of-models.md``.

    A graph exported for a fixed batch size always gets batches of that size: a shorter batch is
    padded with copies of its last row, a longer one is split, and the output has the rows of the
    batch.

    Each run takes one thread. To use all cores, call `run` from several threads at once:
    single-threaded runs side by side finish more images per second than one run on all cores.

    Parameters
    ----------
    path : Path
    providers : sequence of str, optional
        Execution providers of onnxruntime, the preferred one first; by default only the CPU's.
    guard_int8 : bool
        If true, 8-bit numbers are multiplied in a slower way on processors whose faster one
        saturates (x86 without VNNI). Not needed for a graph whose weights use 7 bits.
    graph : bytes, optional
        Graph to run instead of the one in the file.
    several : bool
        Whether the graph may have several inputs, for `run_named`.

    Raises
    ------
    ModelError
        The graph cannot be loaded, has several inputs, or a provider is not available or does
        not start. There is no silent fallback to another provider.
    """

    reads_text = "it reads text: give the graph for images, or the folder of both"

    def __init__(
        self,
        path: Path,
        *,
        providers: Sequence[str] | None = None,
        guard_int8: bool = True,
        graph: bytes | None = None,
        several: bool = False,
    ) -> None:
        if isinstance(providers, str):
            raise InvalidInputError(f"providers: expected a list of names, found {providers!r}")
        self.path = path
        given_names = _DEFAULT_PROVIDERS if providers is None else providers
        self.providers = [_SHORT.get(name.casefold(), name) for name in given_names]
        there = available_providers()
        if not self.providers or (missing := [p for p in self.providers if p not in there]):
            raise ModelError(
                f"providers: expected some of {', '.join(map(_both_names, there))}, found "
                f"{', '.join(map(_both_names, missing)) if self.providers else 'none'}; other "
                f"builds of onnxruntime, such as onnxruntime-gpu, have different ones"
            )
        # onnxruntime has locks of its own: a fork waits until runs are done.
        self._running = ReadWriteLock(brief=True)
        options = _session_options(self.providers)
        options.add_session_config_entry("session.x64quantprecision", "1" if guard_int8 else "0")
        given: Path | bytes = path
        if graph is None and not _is_utf8(path):  # onnxruntime opens only such paths
            graph = path.read_bytes()
            if second := locations(graph):
                raise ModelError(
                    f"{path}: expected a UTF-8 path for a model with weights in a second file "
                    f"({second[0]}), found other bytes; rename the file or its folder"
                )
        if graph is not None:
            given = graph
            if _is_utf8(path):  # where the graph's second files are, if there are any
                options.add_session_config_entry(_WEIGHTS_IN, str(path.absolute().parent))
        started = time.perf_counter()
        check_limits(path, graph)
        try:
            self._session = ort.InferenceSession(
                given, options, providers=_with_options(self.providers)
            )
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise ModelError(
                f"{path}: onnxruntime {ort.__version__} cannot load it: {error}{_remedy(error)}"
            ) from error
        running = self._session.get_providers()
        seconds = time.perf_counter() - started
        _log.info("loaded %s for %s in %.2f s", path, running[0], seconds)
        if failed := [p for p in self.providers if p not in running]:
            raise ModelError(
                f"providers: {', '.join(failed)} is part of this onnxruntime but does not start; "
                f"check that its driver and libraries are installed, or use "
                f"{', '.join(running)}"
            )
        inputs = [_tensor(value) for value in self._session.get_inputs()]
        if not inputs or (len(inputs) != 1 and not several):
            names = ", ".join(tensor.name for tensor in inputs) or "none"
            text = f"; {self.reads_text}" if "input_ids" in names else ""
            raise ModelError(f"{path}: expected one input, found {len(inputs)}: {names}{text}")
        self.inputs = tuple(inputs)
        self.input = inputs[0]
        self.outputs = tuple(_tensor(value) for value in self._session.get_outputs())

    @property
    def batch(self) -> int | None:
        """Batch size the graph was exported for; None if it takes any."""
        return self.input.shape[0] if self.input.shape else None

    def default_batch(self, *, large: bool = False) -> int:
        """Return the images per run that suit the graph and its providers: see `batch_size`."""
        return self.batch or batch_size(self.providers, large=large)

    def run(self, batch: NDArray[Any], output: str) -> NDArray[np.float32]:
        """Return one output for a batch, as float32.

        Raises
        ------
        ModelError
            The graph does not accept the batch, or returns another number of rows.
        """
        fixed = self.batch
        if fixed is None or not len(batch):
            return self._run(batch, output)
        answers = []
        for start in range(0, len(batch), fixed):
            rows = batch[start : start + fixed]
            n = len(rows)
            if n < fixed:
                rows = np.concatenate([rows, np.repeat(rows[-1:], fixed - n, axis=0)])
            answer = self._run(rows, output)
            if fixed > 1 and answer.shape[:1] != (fixed,):
                raise ModelError(
                    f"{self.path}: expected output {output!r} with a row for each of the {fixed} "
                    f"images in the batch, found shape {answer.shape}; choose another with output="
                )
            answers.append(answer[:n])
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def run_named(self, feeds: Mapping[str, NDArray[Any]], output: str) -> NDArray[np.float32]:
        """Return one output for inputs by name, as float32; raises what `run` does.

        A graph that was exported for batches of one length gets them here as well.
        """
        fixed, rows = self.batch, len(next(iter(feeds.values())))
        if fixed is None:
            return self._run_all(feeds, output)
        answers = []
        for start in range(0, rows, fixed):
            part = {name: each[start : start + fixed] for name, each in feeds.items()}
            n = len(next(iter(part.values())))
            if n < fixed:
                part = {
                    name: np.concatenate([each, np.repeat(each[-1:], fixed - n, axis=0)])
                    for name, each in part.items()
                }
            answers.append(self._run_all(part, output)[:n])
        return np.concatenate(answers)

    def _run(self, batch: NDArray[Any], output: str) -> NDArray[np.float32]:
        return self._run_all({self.input.name: batch}, output)

    def _run_all(self, feeds: Mapping[str, NDArray[Any]], output: str) -> NDArray[np.float32]:
        options = ort.RunOptions()
        try:
            with self._running.read(), _watch.over(options):
                (result,) = self._session.run([output], dict(feeds), options)
        except Exception as error:
            if options.terminate:
                raise ModelError(
                    f"{self.path}: expected a graph that runs in less than {_RUN_SECONDS:g} "
                    f"seconds, found one that takes longer, or never ends"
                ) from error
            wanted = ", ".join(
                f"{each.name!r} as {each.dtype} of shape {each.shape}" for each in self.inputs
            )
            found = ", ".join(f"{each.dtype} of shape {each.shape}" for each in feeds.values())
            raise ModelError(
                f"{self.path}: expected input {wanted}, found {found}: {error}"
            ) from error
        return np.asarray(result, dtype=np.float32)


class _Watch:
    """Ends runs that take too long: a graph may have a loop without end.

    Neither Ctrl-C nor another signal reaches Python while a graph runs. The thread that looks at
    the time ends about a second after the last run.
    """

    def __init__(self) -> None:
        self._lock = RLock(brief=True)
        self._until: dict[int, tuple[float, ort.RunOptions]] = {}
        self._thread: threading.Thread | None = None
        self._is_new = False  # whether a run has begun since the last look
        renew_in_child(self)

    def renew(self) -> None:
        """In a forked child there is neither a thread nor a run."""
        self._until, self._thread = {}, None

    @contextmanager
    def over(self, options: ort.RunOptions) -> Iterator[None]:
        """Watch a run for the length of the block; its options tell whether it was ended."""
        key = id(options)
        with self._lock:
            self._until[key], self._is_new = (time.monotonic() + _RUN_SECONDS, options), True
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="imgret-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            self._until.pop(key, None)

    def _look(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for end, options in tuple(self._until.values()):
                if now > end:
                    options.terminate = True
            with self._lock:
                if not self._until and not self._is_new:
                    self._thread = None
                    return
                self._is_new = False


_watch = _Watch()


def _remedy(error: Exception) -> str:
    """Return what to do about a graph that onnxruntime does not load."""
    if not re.search(r"not a registered function/op|No Op registered", str(error)):
        return ""
    return (
        "; imgret loads no libraries of custom operators, as they run code: export the model with "
        "standard ONNX operators, or upgrade onnxruntime if it is newer"
    )


def _both_names(provider: str) -> str:
    return f"{provider} ({_LONG[provider]})" if provider in _LONG else provider


def _is_utf8(path: Path) -> bool:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _tensor(value: Any) -> Tensor:
    # An axis of any length has a name or None as its length.
    shape = tuple(length if isinstance(length, int) else None for length in value.shape)
    return Tensor(value.name, _DTYPES.get(value.type, value.type), shape)
