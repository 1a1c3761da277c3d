"""
What a web service is deployed with: data here, and in Azure what SDK v1 wants of it.

`Model.deploy` of SDK v1 asks a configuration for attributes and methods that
only its own classes have. So what is asked for and is no data is answered by
the SDK's configuration, which is made then.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from scoretrace.errors import MissingExtraError, SettingsError

_SDK = "azureml.core.webservice"


class DeployConfiguration(dict[str, Any]):
    """
    The keywords of ``deploy_configuration``, as a dictionary.

    ``Model.deploy`` of SDK v1 takes it as it is, SDK v1's own
    ``deploy_configuration`` as ``**configuration``; `for_sdk` is the SDK's own
    object, for whatever else wants one. `switches` are the keywords of `update`.
    """

    _compute: str

    def __init__(self, compute: str, /, **keywords: Any) -> None:
        """*compute* is the name of SDK v1's class, or empty for a service of this machine."""
        super().__init__(keywords)
        object.__setattr__(self, "_compute", compute)

    def switches(self) -> dict[str, Any]:
        """What it says of telemetry and model data: ``service.update(**configuration.switches())``."""
        return {name: self[name] for name in ("enable_app_insights", "collect_model_data")}

    def copy(self) -> DeployConfiguration:
        """Another one with the same keywords."""
        return DeployConfiguration(self._compute, **self)

    def __setattr__(self, name: str, value: Any) -> None:
        """The attribute of a keyword is that: SDK v1 changes some."""
        if name in self:
            self[name] = value
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """What SDK v1 asks of a configuration, answered by its own, made of the keywords as they are now."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self and _SDK not in sys.modules:
            return self[name]
        try:
            return getattr(self.for_sdk(), name)
        except (MissingExtraError, SettingsError) as error:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}: {error}") from error

    def for_sdk(self) -> Any:
        """
        The configuration of SDK v1, made from these keywords.

        Raises:
            MissingExtraError: azureml-core is not installed.
            SettingsError: it does not take one of the keywords or its value, or the service is one of this machine.
        """
        if not self._compute:
            raise SettingsError("Webservice names no compute: use AksWebservice or AciWebservice.deploy_configuration")
        try:
            sdk = import_module(_SDK)
        except ImportError as error:
            raise MissingExtraError("deploying with SDK v1", package="azureml-core") from error
        try:
            return getattr(sdk, self._compute).deploy_configuration(**self)
        except Exception as error:  # a name that is no keyword, and what the SDK says of a value
            said = getattr(error, "message", None) or error
            raise SettingsError(f"{self._compute}.deploy_configuration: {said}") from error


def deploy_configuration(compute: str, /, **keywords: Any) -> DeployConfiguration:
    """
    A configuration with *keywords*, looked at by SDK v1 at once where that is in use already.

    Raises:
        SettingsError: a keyword is not one that it takes.
    """
    for name in ("enable_app_insights", "collect_model_data"):
        if keywords[name] is not None:
            flag(name, keywords[name])
    made = DeployConfiguration(compute, **keywords)
    if compute and _SDK in sys.modules:
        made.for_sdk()
    return made


def flags(enable_app_insights: bool | None, collect_model_data: bool | None) -> dict[str, bool]:
    """
    What is to be switched.

    Raises:
        SettingsError: nothing is, or a value is neither True nor False.
    """
    given = {"enable_app_insights": enable_app_insights, "collect_model_data": collect_model_data}
    wanted = {name: flag(name, value) for name, value in given.items() if value is not None}
    if not wanted:
        raise SettingsError("nothing to update: give enable_app_insights=, collect_model_data= or both")
    return wanted


def flag(name: str, value: Any) -> bool:
    """
    *value*, which must be True or False: ``"off"`` would count as true.

    Raises:
        SettingsError: it is something else.
    """
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {value!r:.80}: it must be True or False")
    return value
