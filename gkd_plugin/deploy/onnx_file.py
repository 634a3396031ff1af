"""A student's program as an ONNX file, compared with the student by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from gkd_plugin.deploy.program import Checked, NotExportable, compare, quiet
from gkd_plugin.errors import describe_error
from gkd_plugin.models.trained import TrainedStudent

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(path: Path, program: Any, student: TrainedStudent, names: Sequence[str], graph: Data) -> Checked:
    """Writes the file and runs it on a graph of another size than that of the trace.

    Args:
        path (Path): The file; it is not there where this fails.
        program: What :func:`~gkd_plugin.deploy.program.export_program` gave.
        student (TrainedStudent): The student.
        names (sequence of str): The program's arguments, which become the names of the inputs.
        graph (Data): The graph.

    Raises:
        NotExportable: If packages are missing, an operator has no ONNX form, or the logits differ.
    """
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise NotExportable(f"it needs {', '.join(missing)}: pip install 'gkd_plugin[onnx]'")
    try:
        with quiet():
            made = torch.onnx.export(
                program, (), dynamo=True, input_names=list(names), output_names=["logits"], verbose=False
            )
            made.save(str(path))  # type: ignore[union-attr] # never None with dynamo
        return compare(_run(path, names, graph), student, names, graph)
    except NotExportable:
        path.unlink(missing_ok=True)
        raise
    except Exception as error:  # the exporter and the runtime have many classes of errors
        path.unlink(missing_ok=True)
        causes = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)  # type: ignore[arg-type] # an operator's name stands in the first cause
        raise NotExportable(describe_error(causes[-1])) from error


def _run(path: Path, names: Sequence[str], graph: Data) -> torch.Tensor:
    import onnxruntime  # an extra

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kept = {each.name for each in session.get_inputs()}
    (found,) = session.run(None, {name: graph[name].numpy() for name in names if name in kept})
    return torch.from_numpy(found)
