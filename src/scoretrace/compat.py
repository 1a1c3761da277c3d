"""
Answer for Azure ML's own packages where they are not installed, so that documented scripts run as they are.

    from scoretrace import compat

    compat.install()

    from azureml.monitoring import ModelDataCollector        # scoretrace's
    from azureml.ai.monitoring import Collector              # scoretrace's
    from azureml.core.model import Model                     # get_model_path alone

`scoretrace run` does it by itself. What is installed is left alone, unless
`install` is told to replace it: azureml-monitoring can be installed and
imported, and fails at each `collect`, because its native library does not load.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from scoretrace.collect.collector import BasicCorrelationContext, Collector, CorrelationContext
from scoretrace.collect.model_data_collector import ModelDataCollector

_MODELS = "azureml-models"


class Model:
    """The part of azureml.core.model.Model that scoring scripts use."""

    @staticmethod
    def get_model_path(model_name: str, version: int | str | None = None, _workspace: Any = None) -> str:
        """
        The path of a model's file or folder on this machine.

        It is looked for in AZUREML_MODEL_DIR, in ``azureml-models``, and in the
        working folder: as ``<name>/<version>/<the only thing in there>`` with the
        highest version if none is asked for, or simply as ``<name>``.

        Raises:
            FileNotFoundError: it is in none of them.
        """
        given = os.environ.get("AZUREML_MODEL_DIR")
        places = [Path(given)] if given else []
        # For one model AZUREML_MODEL_DIR is that model's own folder, <models>/<name>/<version>.
        places += [Path(_MODELS), Path(), *(Path(given).absolute().parents[:2] if given else ())]
        for place in places:
            found = _in(place / model_name, version)
            if found is not None:
                return str(found)
        looked = ", ".join(str(place.absolute()) for place in places)
        said = model_name if version is None else f"{model_name} of version {version}"
        raise FileNotFoundError(
            f"there is no model {said} in {looked}: set AZUREML_MODEL_DIR to the folder that has it"
        )


def _in(path: Path, version: int | str | None) -> Path | None:
    if not path.exists():
        return None
    versions = [entry.name for entry in path.iterdir() if entry.name.isdigit()] if path.is_dir() else []
    if not versions:
        return path if version is None else None
    wanted = max(versions, key=int) if version is None else str(version)
    if wanted not in versions:
        return None
    inside = [entry for entry in (path / wanted).iterdir() if not entry.name.startswith(".")]
    return inside[0] if len(inside) == 1 else path / wanted


def _module(**names: Any) -> dict[str, Any]:
    return {**names, "__all__": sorted(names)}


_ANSWERS: dict[str, dict[str, Any]] = {
    "azureml": {},
    "azureml.monitoring": _module(ModelDataCollector=ModelDataCollector),
    "azureml.monitoring.modeldatacollector": _module(ModelDataCollector=ModelDataCollector),
    "azureml.ai": {},
    "azureml.ai.monitoring": _module(Collector=Collector),
    "azureml.ai.monitoring.collector": _module(Collector=Collector),
    "azureml.ai.monitoring.context": _module(
        BasicCorrelationContext=BasicCorrelationContext, CorrelationContext=CorrelationContext
    ),
    "azureml.core": _module(Model=Model),
    "azureml.core.model": _module(Model=Model),
}
_PACKAGES = {name.rpartition(".")[0] for name in _ANSWERS}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked after all others, or before them for the names that it is to replace."""

    def __init__(self, *, replaces: bool) -> None:
        self._replaces = replaces

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if name not in _ANSWERS or (self._replaces and not _answers(name)):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=name in _PACKAGES)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(_ANSWERS[module.__name__])


def _answers(name: str) -> bool:
    """Whether *name* is for us to replace: a namespace package has others' modules in it."""
    return bool(_ANSWERS[name]) and not name.startswith("azureml.core")


def install(*, replace: bool = False) -> Callable[[], None]:
    """
    Have the imports of this module's docstring answered from now on; returns what undoes it.

    With *replace* azureml-monitoring and azureml-ai-monitoring are answered for
    even where they are installed, but for what was imported before.
    """
    finder = _Finder(replaces=False)
    if not any(isinstance(known, _Finder) for known in sys.meta_path):
        sys.meta_path.append(finder)
    first = _Finder(replaces=True)
    if replace:
        sys.meta_path.insert(0, first)

    def undo() -> None:
        for one in (finder, first):
            if one in sys.meta_path:
                sys.meta_path.remove(one)
        for name in list(sys.modules):
            spec = getattr(sys.modules[name], "__spec__", None)
            if name in _ANSWERS and spec is not None and isinstance(spec.loader, _Finder):
                del sys.modules[name]

    return undo
