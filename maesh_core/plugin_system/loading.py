"""The enabled plugins, loaded for one process and checked.

Takes the plugins that the settings name, with their raw settings. Returns LoadedPlugins, or raises PluginError, which
names the plugin and its distribution, or SettingsError for a wrong setting. Imports only the half of a plugin that this
process needs. It also runs in the proxy: no command line, no aiohttp, no YAML, no package metadata.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import msgspec
import pluggy

from maesh_core.errors import ConfigurationError, PluginError, SettingsError
from maesh_core.plugin import Plugin
from maesh_core.plugin_system.hook_results import find_result_problem
from maesh_core.plugin_system.hookspecs import HOOK_API_VERSION, PROJECT_NAME, SPEC_FAMILIES
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.fields import normalise_name
from maesh_core.values.parsing import parse_value
from maesh_core.values.spelling import suggest

Half = Literal["controller", "proxy", "parent"]

_HOOK_PREFIX = "maesh_"


class LoadedPlugins:
    """The enabled plugins of one process. `names` lists them sorted, those without a half in this process included.

    `guards` lists those of them that decide who may reach services.
    """

    __slots__ = ("_guarding", "_installed", "_manager", "_owners", "guards", "names")

    def __init__(
        self, installed: Sequence[InstalledPlugin], manager: pluggy.PluginManager, *, guards: Sequence[str] = ()
    ) -> None:
        self.names = tuple(sorted(plugin.name for plugin in installed))
        self.guards = tuple(sorted(guards))
        self._installed = {plugin.name: plugin for plugin in installed}
        self._manager = manager
        self._owners: dict[int, tuple[object, str]] = {}
        self._guarding: set[int] = set()

    def __repr__(self) -> str:
        return f"<LoadedPlugins {', '.join(self.names) or 'none'}>"

    def collect(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Call a hook once for each plugin that implements it, by name, and join what they return.

        An implementation gets those of the arguments that it takes. Raises PluginError when one raises, returns
        anything but a list or tuple, or returns an object that lacks what the hook's interface has.
        """
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook_name)
        found: list[Any] = []
        for implementation in sorted(caller.get_hookimpls(), key=lambda each: each.plugin_name):
            label = self._installed[implementation.plugin_name].label
            try:
                result = implementation.function(**{name: arguments[name] for name in implementation.argnames})
            except (Exception, SystemExit) as error:  # a plugin's code may raise anything
                raise PluginError(f"{label}: {_describe_raised(hook_name, error)}") from error
            if not isinstance(result, (list, tuple)):
                raise PluginError(f"{label}: {hook_name} returned {_name_type(result)}, not a list or tuple")
            for each in result:
                _check_result(label, hook_name, each)
                self._owners[id(each)] = (each, label)
                if implementation.plugin_name in self.guards:
                    self._guarding.add(id(each))
            found.extend(result)
        return found

    def is_guard(self, provided: object) -> bool:
        """Whether the plugin that returned an object from a hook decides who may reach services."""
        return id(provided) in self._guarding

    def describe(self, provided: object) -> str:
        """Name the plugin, with its distribution, that returned an object from a hook; its type where none did."""
        owner = self._owners.get(id(provided))
        return owner[1] if owner is not None else f"{type(provided).__module__}.{type(provided).__qualname__}"


def load_plugins(
    half: Half,
    plugins: Sequence[InstalledPlugin],
    raw_settings: Mapping[str, Mapping[str, Any]],
    *,
    origins: Mapping[str, str] | None = None,
) -> LoadedPlugins:
    """Load these plugins for one process.

    `raw_settings` are by plugin name and key; `origins` says by `NAME.KEY` where each came from. Raises PluginError,
    and SettingsError for a plugin's settings.
    """
    manager = pluggy.PluginManager(PROJECT_NAME)
    for family in SPEC_FAMILIES:
        manager.add_hookspecs(family)
    guards = []
    for plugin in plugins:
        raw = raw_settings.get(plugin.name, {})
        if _register(plugin, manager, half=half, raw=raw, origins=origins or {}).is_access_control:
            guards.append(plugin.name)
    return LoadedPlugins(plugins, manager, guards=guards)


def _register(
    installed: InstalledPlugin,
    manager: pluggy.PluginManager,
    *,
    half: Half,
    raw: Mapping[str, Any],
    origins: Mapping[str, str],
) -> Plugin:
    """Load a plugin's declaration and this process's half of it, and register the half's hooks."""
    plugin = _load_declaration(installed)
    settings = _decode_settings(installed, plugin.settings, raw, origins)
    path = installed.parent or None if half == "parent" else getattr(plugin, half)
    if path is None:
        return plugin
    factory = _load_object(installed, path)
    try:
        implementation = factory() if settings is None else factory(settings)
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything
        raise PluginError(f"{installed.label}: {_describe_raised(f'its {half} half {path}', error)}") from error
    if implementation is None:
        raise PluginError(f"{installed.label}: its {half} half {path} returned None, not an object with hooks")
    _refuse_unusable_hooks(installed, implementation)
    try:
        manager.register(implementation, name=installed.name)
        manager.check_pending()
    except (ValueError, pluggy.PluginValidationError) as error:
        raise PluginError(f"{installed.label}: {_flatten(error)}") from error
    return plugin


def _load_declaration(installed: InstalledPlugin) -> Plugin:
    declaration = _load_object(installed, installed.path)
    if not isinstance(declaration, Plugin):
        raise PluginError(
            f"{installed.label}: {installed.path} is {_name_type(declaration)}, not a maesh_core.plugin.Plugin"
        )
    if declaration.hook_api_version != HOOK_API_VERSION:
        raise PluginError(
            f"{installed.label} is made for hook API version {declaration.hook_api_version}, and this is version "
            f"{HOOK_API_VERSION}; install a version of {installed.distribution} that fits"
        )
    if declaration.is_access_control and not (declaration.controller and declaration.proxy):
        raise PluginError(f"{installed.label} declares access control, which needs a controller and a proxy half")
    return declaration


def _load_object(installed: InstalledPlugin, path: str) -> Any:
    """Import what `package.module:attribute` names, as an entry point does."""
    module, _, attributes = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for attribute in filter(None, attributes.split(".")):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # importing runs a plugin's code, which may raise anything
        raise PluginError(f"{installed.label} cannot be imported from {path}: {_describe(error)}") from error
    return found


def _check_result(label: str, hook_name: str, result: object) -> None:
    """Refuse what a hook returned where the process could not use it."""
    try:
        problem = find_result_problem(hook_name, result)
    except Exception as error:  # a plugin's attribute may raise anything
        raise PluginError(f"{label}: {hook_name} returned {_name_type(result)}: {_describe(error)}") from error
    if problem is not None:
        raise PluginError(f"{label}: {hook_name} returned {_name_type(result)}, which {problem}")


def _refuse_unusable_hooks(installed: InstalledPlugin, implementation: object) -> None:
    """Refuse a method that is named as a hook and is none, is not marked as one, or takes what no hook is given.

    pluggy refuses the first and the last too, in words that name its own parts.
    """
    for name in dir(implementation):
        if not name.startswith(_HOOK_PREFIX):
            continue
        method = inspect.getattr_static(implementation, name)
        function = getattr(method, "__func__", method)
        if not callable(function):
            continue
        known = _list_hook_arguments()
        if name not in known:
            raise PluginError(f"{installed.label}: there is no hook {name}{suggest(name, known)}")
        if not hasattr(function, f"{PROJECT_NAME}_impl"):
            raise PluginError(f"{installed.label}: {name} is not marked with @hookimpl")
        taken = inspect.signature(getattr(implementation, name)).parameters.values()
        unknown = [each.name for each in taken if each.default is each.empty and each.name not in known[name]]
        if unknown:
            given = f"it may take {', '.join(known[name])}" if known[name] else "it is given none"
            raise PluginError(f"{installed.label}: hook {name} takes an argument {unknown[0]}; {given}")


@cache
def _list_hook_arguments() -> Mapping[str, tuple[str, ...]]:
    """List the hooks that there are, each with what it is given. They never change, and each call takes 0.2 ms."""
    return {
        name: tuple(inspect.signature(function).parameters)[1:]
        for family in SPEC_FAMILIES
        for name, function in vars(family).items()
        if name.startswith(_HOOK_PREFIX)
    }


def _decode_settings(
    installed: InstalledPlugin,
    settings_type: Any,
    raw: Mapping[str, Any],
    origins: Mapping[str, str],
) -> msgspec.Struct | None:
    """Check raw settings against a plugin's struct; text becomes what the field wants."""
    if settings_type is None:
        if raw:
            raise SettingsError(_describe_unknown_key(installed, next(iter(raw)), (), origins))
        return None
    if not (isinstance(settings_type, type) and issubclass(settings_type, msgspec.Struct)):
        raise PluginError(f"{installed.label}: its settings are {_name_type(settings_type)}, not a msgspec.Struct type")
    fields = msgspec.structs.fields(settings_type)
    if any(field.required for field in fields):
        raise PluginError(f"{installed.label}: every field of its settings needs a default")
    known = {normalise_name(field.encode_name): field for field in fields}
    values = {}
    for key, value in raw.items():
        field = known.get(normalise_name(key))
        if field is None:
            keys = [each.encode_name.replace("_", "-") for each in fields]
            raise SettingsError(_describe_unknown_key(installed, key, keys, origins))
        try:
            values[field.name] = parse_value(value, field.type)
        except ValueError as error:
            origin = origins.get(f"{installed.name}.{key}", f"{installed.name}.{key}")
            raise SettingsError(f"{origin}: {value!r} is not {error} ({installed.label})") from error
    return _build_settings(installed, settings_type, values)


def _build_settings(
    installed: InstalledPlugin, settings_type: type[msgspec.Struct], values: Mapping[str, Any]
) -> msgspec.Struct:
    try:
        return settings_type(**values)
    except (TypeError, ValueError) as error:  # what __post_init__ of a struct may raise (msgspec)
        raise SettingsError(f"{installed.label}: bad settings: {error}") from error


def _describe_unknown_key(
    installed: InstalledPlugin, key: str, known: Sequence[str], origins: Mapping[str, str]
) -> str:
    origin = origins.get(f"{installed.name}.{key}", f"{installed.name}.{key}")
    keys = f"its settings are {', '.join(known)}" if known else "it has no settings"
    return f"{origin}: {installed.label} has no setting {key!r}; {keys}"


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {_flatten(error)}"


def _describe_raised(name: str, error: BaseException) -> str:
    """Describe what a hook or a half raised; the text of a ConfigurationError is meant for users, and is enough."""
    return _flatten(error) if isinstance(error, ConfigurationError) else f"{name} raised {_describe(error)}"


def _flatten(error: BaseException) -> str:
    """Bring an error's text onto one line."""
    return " ".join(str(error).split()) or "no text"


def _name_type(value: object) -> str:
    if value is None:
        return "None"
    name = f"{value.__name__} class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"
