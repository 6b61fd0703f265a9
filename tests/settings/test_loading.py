"""Settings: flags over environment over file over default, any spelling, and one line for every mistake."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import PluginError, SettingsError
from maesh_core.settings import ControllerSettings, InstalledPlugin, PluginsSettings, ProxySettings, UpSettings
from maesh_core.settings.check import CheckSettings
from maesh_core.settings.fields import list_fields
from maesh_core.settings.loading import list_core_flags, load_settings
from maesh_core.settings.sources import CommandLine
from maesh_core.settings.states import DiffSettings
from maesh_core.values.parsing import parse_duration, render_value

CLASSES = (ControllerSettings, ProxySettings, UpSettings, PluginsSettings)


def make_plugin(name, *, is_default=False):
    return InstalledPlugin(
        name=name, distribution=f"acme-{name}", version="1", summary="", is_default=is_default, path="module:PLUGIN"
    )


INSTALLED = (make_plugin("stamp"), make_plugin("retry", is_default=True), make_plugin("stamp-more"))


def load(class_=UpSettings, environment=None, *, installed=INSTALLED, **command_line):
    return load_settings(class_, CommandLine(**command_line), environment=environment or {}, installed=installed)


def load_values(class_=UpSettings, environment=None, **command_line):
    return load(class_, environment, **command_line).settings


def list_names(settings):
    return {plugin.name for plugin in settings.plugins}


@pytest.fixture
def config_file(tmp_path):
    """Write a configuration file."""

    def write(text):
        path = tmp_path / "maesh.toml"
        path.write_text(text)
        return str(path)

    return write


# --- addresses and networks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("all", ("all",)),
        ("none", ()),
        ("", ()),
        ("10.0.0.1, fd00::/8", ("10.0.0.1/32", "fd00::/8")),
        ("::ffff:10.0.0.0/104", ("10.0.0.0/8",)),
    ],
)
def test_networks_are_the_same_from_a_flag_a_variable_and_a_file(given, wanted, config_file):
    assert load_values(ProxySettings, values={"forwarded_headers": [given]}).forwarded_headers == wanted
    from_variable = load_values(ProxySettings, {"MAESH_FORWARDED_HEADERS": given}).forwarded_headers
    assert from_variable == (wanted if given else ("all",))  # an empty variable is none
    path = config_file(f"forwarded-headers = {[part.strip() for part in given.split(',')]}")
    assert load_values(ProxySettings, config_file=path).forwarded_headers == wanted


def test_what_is_no_network_is_refused_before_anything_starts():
    with pytest.raises(SettingsError, match=r"--forwarded-headers: 'all,10\.0\.0\.1' is not all, none, or addresses"):
        load_values(ProxySettings, values={"forwarded_headers": ["all", "10.0.0.1"]})


# --- where values come from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_", CLASSES)
def test_nothing_given_means_the_defaults(class_):
    loaded = load(class_, {"HOME": "/", "PATH": "/bin"})
    assert loaded.settings == class_(plugins=(INSTALLED[1],))
    assert loaded.warnings == ()


def test_flag_beats_variable_beats_file_beats_default_for_each_field(config_file):
    path = config_file("api-port = 1\nadmin-port = 2\nhttp-port = 3\n")
    environment = {"MAESH_CONFIG_FILE": path, "MAESH_API_PORT": "11", "MAESH_ADMIN_PORT": "12"}
    settings = load_values(environment=environment, values={"api_port": "21"})
    assert (settings.api_port, settings.admin_port, settings.http_port) == (21, 12, 3)
    assert settings.tcp_port == 10000


@pytest.mark.parametrize(
    "name", ["MAESH_LIMIT_HTTP_PORT", "MAESH_LIMITHTTPPORT", "TRAEFIK_MESH_LIMITHTTPPORT", "maesh_limitHTTPPort"]
)
def test_spelling_of_a_variable_does_not_matter(name):
    assert load_values(environment={name: "7"}).limit_http_port == 7


@pytest.mark.parametrize("key", ["limit-http-port", "limitHTTPPort", "limit_http_port", "LIMITHTTPPORT"])
def test_spelling_of_a_file_key_does_not_matter(config_file, key):
    assert load_values(config_file=config_file(f"{key} = 7\n")).limit_http_port == 7


def test_own_prefix_beats_the_later_name_of_the_original():
    environment = {"TRAEFIK_MESH_API_PORT": "1", "MAESH_APIPORT": "2"}
    assert load_values(environment=environment).api_port == 2


def test_two_spellings_of_one_variable_that_differ_are_refused():
    with pytest.raises(SettingsError, match=r"MAESH_APIPORT and MAESH_API_PORT|MAESH_API_PORT and MAESH_APIPORT"):
        load(environment={"MAESH_API_PORT": "1", "MAESH_APIPORT": "2"})


def test_two_spellings_of_one_file_key_are_refused(config_file):
    with pytest.raises(SettingsError, match="apiPort set the same setting"):
        load(config_file=config_file("api-port = 1\napiPort = 1\n"))


def test_empty_variable_counts_as_not_set():
    assert load_values(environment={"MAESH_API_PORT": ""}).api_port == 9000


def test_flag_for_the_file_beats_the_variable(config_file, tmp_path):
    environment = {"MAESH_CONFIG_FILE": str(tmp_path / "absent")}
    assert load_values(environment=environment, config_file=config_file("api-port = 5\n")).api_port == 5


def test_file_may_hold_what_only_other_commands_take(config_file):
    path = config_file('endpoint = "http://mesh"\nrecursive = true\n')
    assert load_values(ProxySettings, config_file=path).endpoint == "http://mesh"
    assert load_values(ControllerSettings, config_file=path).recursive is True


def test_lists_are_separated_by_commas_and_repeated(config_file):
    assert load_values(values={"ignore_namespaces": ["a, b", "c"]}).ignore_namespaces == ("a", "b", "c")
    assert load_values(environment={"MAESH_IGNORE_NAMESPACES": "a,b"}).ignore_namespaces == ("a", "b")
    assert load_values(config_file=config_file('ignoreNamespaces = ["a", "b"]')).ignore_namespaces == ("a", "b")
    assert load_values(config_file=config_file('ignoreNamespaces = "a,b"')).ignore_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("1m", 60), ("1h", 3600), ("2", 2), ("1.5", 1.5), (" 1.5S ", 1.5), ("0", 0)],
)
def test_durations_are_read_with_and_without_a_unit(text, seconds):
    assert load_values(values={"idle_timeout": text}).idle_timeout == seconds


def test_switch_of_a_flag_beats_the_environment():
    assert load_values(environment={"MAESH_RECURSIVE": "yes"}).recursive is True
    assert load_values(environment={"MAESH_RECURSIVE": "yes"}, values={"recursive": False}).recursive is False


def test_paths_are_taken_as_they_are():
    assert load_values(paths=("a", "b")).paths == ("a", "b")


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("api_port", "http", "--api-port: 'http' is not a whole number from 0 to 65535"),
        ("api_port", "65536", "--api-port: '65536' is not a whole number from 0 to 65535"),
        ("api_port", "-1", "--api-port: '-1' is not a whole number from 0 to 65535"),
        ("http_port", "0", "--http-port: '0' is not a whole number from 1 to 65535"),
        ("tcp_port", "0", "--tcp-port: '0' is not a whole number from 1 to 65535"),
        ("limit_http_port", "0", "--limit-http-port: '0' is not a whole number of at least 1"),
        ("log_format", "xml", "--log-format: 'xml' is not one of common, json"),
        ("idle_timeout", "soon", "--idle-timeout: 'soon' is not a duration such as 500ms, 10s or 1m"),
        ("idle_timeout", "-1s", "--idle-timeout: '-1s' is not a duration such as 500ms, 10s or 1m"),
        ("idle_timeout", "nan", "--idle-timeout: 'nan' is not a duration such as 500ms, 10s or 1m"),
        ("idle_timeout", "9" * 400, f"--idle-timeout: '{'9' * 400}' is not a duration such as 500ms, 10s or 1m"),
    ],
)
def test_bad_flag_is_one_line_with_flag_value_and_rule(field, value, line):
    with pytest.raises(SettingsError) as caught:
        load(values={field: value})
    assert str(caught.value) == line


def test_bad_variable_is_named_as_it_is_spelt():
    with pytest.raises(SettingsError, match=r"^MAESH_APIPORT: 'x' is not a whole number"):
        load(environment={"MAESH_APIPORT": "x"})


@pytest.mark.parametrize("value", ['"x"', "true", "1.5", "[1]", "{a = 1}", "70000"])
def test_bad_file_entry_names_file_key_and_rule(config_file, value):
    with pytest.raises(SettingsError, match=r"maesh\.toml: apiPort: .* is not a whole number from 0 to 65535$"):
        load(config_file=config_file(f"apiPort = {value}\n"))


def test_unknown_file_key_is_an_error_with_a_suggestion(config_file):
    with pytest.raises(SettingsError, match=r"maesh\.toml: api-prot: unknown key; did you mean api-port\?"):
        load(config_file=config_file("api-prot = 1\n"))


def test_file_that_is_absent_or_no_toml_is_an_error_that_names_it(config_file, tmp_path):
    with pytest.raises(SettingsError, match=r"--config-file: '.*absent' cannot be read: No such file"):
        load(config_file=str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match=r"--config-file: '.*maesh\.toml' is not TOML: .*line 1"):
        load(config_file=config_file("api-port: 1\n"))
    with pytest.raises(SettingsError, match="cannot be read"):
        load(config_file=str(tmp_path))


def test_unknown_variable_is_a_warning():
    loaded = load(environment={"MAESH_BOGUS": "1", "TRAEFIK_MESH_LOGLEVEL": "info", "MAESH_PURE": "1"})
    assert loaded.warnings == ("unknown environment variables: MAESH_BOGUS",)
    assert loaded.settings.log_level == "info"


def test_variables_that_kubernetes_makes_for_services_are_left_alone():
    environment = {
        "MAESH_CONTROLLER_SERVICE_HOST": "10.0.0.1",
        "MAESH_CONTROLLER_SERVICE_PORT": "9000",
        "MAESH_CONTROLLER_SERVICE_PORT_API": "9000",
        "MAESH_CONTROLLER_PORT": "tcp://10.0.0.1:9000",
        "MAESH_CONTROLLER_PORT_9000_TCP": "tcp://10.0.0.1:9000",
        "MAESH_CONTROLLER_PORT_9000_TCP_PROTO": "tcp",
        "MAESH_CONTROLLER_PORT_9000_TCP_PORT": "9000",
        "MAESH_CONTROLLER_PORT_9000_TCP_ADDR": "10.0.0.1",
        "MAESH_API_PORT": "tcp://10.0.0.2:9000",  # of a Service that is called maesh-api
        "MAESH_STAMP_PORT": "udp://10.0.0.3:53",
    }
    loaded = load(environment=environment, switches={"stamp": True})
    assert loaded.warnings == ()
    assert loaded.settings.api_port == 9000
    assert loaded.settings.plugin_settings == {}


# --- plugins -------------------------------------------------------------------------------------------------------


def test_switches_merge_flag_over_variable_over_list_over_file(config_file):
    path = config_file('[plugins]\nstamp = true\nretry = false\n"stamp-more" = true\n')
    settings = load_values(config_file=path)
    assert list_names(settings) == {"stamp", "stamp-more"}
    environment = {"MAESH_PLUGINS": "no-stamp, retry", "MAESH_STAMP_MORE": "off"}
    settings = load_values(config_file=path, environment=environment)
    assert list_names(settings) == {"retry"}
    settings = load_values(config_file=path, environment=environment, switches={"stamp": True, "retry": None})
    assert list_names(settings) == {"stamp", "retry"}


@pytest.mark.parametrize("switches", [{"acl": True}, {"nobody": True}])
def test_switching_on_what_is_not_installed_says_where(switches):
    (name,) = switches
    with pytest.raises(PluginError, match=rf"^--{name}: plugin '{name}' is not installed; .*acme-stamp"):
        load(switches=switches)
    with pytest.raises(PluginError, match=rf"^MAESH_PLUGINS: plugin '{name}' is not installed"):
        load(environment={"MAESH_PLUGINS": name})


def test_plugin_in_the_file_that_is_not_installed_is_an_error_with_file_and_key(config_file):
    with pytest.raises(PluginError, match=r"maesh\.toml: plugins\.nobody: plugin 'nobody' is not installed"):
        load(config_file=config_file("[plugins]\nnobody = true\n"))


def test_plugin_settings_merge_by_key_in_any_spelling(config_file):
    path = config_file('[plugins]\nstamp = true\n[stamp]\nhead_limit = 1\nprefix = "f"\nother = true\n')
    environment = {"MAESH_STAMP_HEADLIMIT": "2", "MAESH_STAMP_PREFIX": "e"}
    settings = load_values(
        config_file=path, environment=environment, plugin_settings=("stamp.head-limit=3", "stamp.text=a=b")
    )
    assert settings.plugin_settings == {"stamp": {"head-limit": "3", "prefix": "e", "other": True, "text": "a=b"}}
    assert settings.origins["stamp.head-limit"] == "--set stamp.head-limit"
    assert settings.origins["stamp.prefix"] == "MAESH_STAMP_PREFIX"
    assert settings.origins["stamp.other"].endswith("maesh.toml: stamp.other")


def test_variable_of_the_plugin_with_the_longer_name_is_its_own():
    environment = {"MAESH_PLUGINS": "stamp,stamp-more", "MAESH_STAMP_MORE_X": "1", "MAESH_STAMP_Y": "2"}
    assert load_values(environment=environment).plugin_settings == {"stamp-more": {"x": "1"}, "stamp": {"y": "2"}}


def test_settings_in_file_and_environment_of_a_plugin_that_is_off_do_not_matter(config_file):
    path = config_file("[stamp]\nx = 1\n[ratelimit]\ny = 2\n")
    assert load_values(config_file=path, environment={"MAESH_STAMP_Z": "1"}).plugin_settings == {}


def test_set_for_a_plugin_that_is_off_or_absent_is_an_error():
    with pytest.raises(SettingsError, match=r"^--set stamp\.x: plugin 'stamp' is not enabled; --stamp enables it$"):
        load(plugin_settings=("stamp.x=1",))
    with pytest.raises(SettingsError, match=r"^--set nobody\.x: plugin 'nobody' is not installed; .*stamp"):
        load(plugin_settings=("nobody.x=1",))


@pytest.mark.parametrize("text", ["", "stamp", "stamp.x", "stamp=1", ".x=1", "stamp.=1", "="])
def test_set_that_is_not_name_key_and_value_is_an_error(text):
    with pytest.raises(SettingsError, match=r"--set: .* is not NAME\.KEY=VALUE"):
        load(plugin_settings=(text,), switches={"stamp": True})


def test_old_debug_means_the_log_level_and_says_so(config_file):
    for loaded, origin in [
        (load(is_debug=True), "--debug"),
        (load(environment={"MAESH_DEBUG": "true"}), "MAESH_DEBUG"),
        (load(config_file=config_file("debug = true")), "maesh.toml: debug"),
    ]:
        assert loaded.settings.log_level == "debug"
        (warning,) = loaded.warnings
        assert warning.endswith(f"{origin} is deprecated: use --log-level debug")
    assert load_values(is_debug=True, values={"log_level": "info"}).log_level == "info"


def test_old_smi_means_acl_and_says_so(config_file):
    installed = (make_plugin("acl"), make_plugin("smi", is_default=True))
    for loaded in [
        load(installed=installed, is_smi=True),
        load(installed=installed, environment={"MAESH_SMI": "true"}),
        load(installed=installed, config_file=config_file("smi = true")),
    ]:
        assert list_names(loaded.settings) == {"acl", "smi"}
        (warning,) = loaded.warnings
        assert warning.lower().endswith("smi is deprecated: use --acl")


def test_old_smi_without_the_access_control_to_give_it_does_not_start_open():
    with pytest.raises(PluginError, match="--smi, the old name of --acl: plugin 'acl' is not installed"):
        load(is_smi=True)


def test_plugin_smi_is_switched_by_its_name_in_lists_and_tables(config_file):
    installed = (make_plugin("smi", is_default=True),)
    assert load(installed=installed, environment={"MAESH_PLUGINS": "no-smi"}).settings.plugins == ()
    assert load(installed=installed, switches={"smi": False}).settings.plugins == ()
    loaded = load(installed=installed, config_file=config_file("[plugins]\nsmi = true\n"))
    assert (loaded.settings.plugins, loaded.warnings) == (installed, ())


def test_a_setting_that_differs_between_commands_has_a_variable_and_key_for_each(config_file):
    variables = {"MAESH_CHECK_FAIL_ON": "notice", "MAESH_DIFF_FAIL_ON": "changes"}
    assert (load_values(CheckSettings, variables).fail_on, load_values(DiffSettings, variables).fail_on) == (
        "notice",
        "changes",
    )
    assert load_values(CheckSettings, variables, values={"fail_on": "error"}).fail_on == "error"
    path = config_file('check-fail-on = "warning"\n')
    assert load_values(CheckSettings, config_file=path).fail_on == "warning"
    assert load_values(DiffSettings, config_file=path).fail_on == "never"
    assert load(CheckSettings, {"MAESH_FAIL_ON": "notice"}).warnings == (
        "unknown environment variables: MAESH_FAIL_ON",
    )


# --- laws ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_", CLASSES)
def test_every_default_is_read_back_from_its_own_text(class_):
    for field in list_fields(class_):
        text = render_value(field.default, field.type)
        if text:
            assert getattr(load_values(class_, {field.variable: text}), field.name) == field.default


def test_a_whole_number_that_no_float_can_hold_is_no_duration():
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(10**400)


@given(seconds=st.integers(0, 10**10).map(lambda milliseconds: milliseconds / 1000))
def test_every_duration_is_read_back_from_its_own_text(seconds):
    field = next(field for field in list_fields(ProxySettings) if field.name == "idle_timeout")
    settings = load_values(ProxySettings, values={"idle_timeout": render_value(seconds, field.type)})
    assert settings.idle_timeout == pytest.approx(seconds)


@given(
    value=st.text(string.printable, max_size=20),
    name=st.sampled_from([field.name for field in list_fields(UpSettings)]),
)
def test_no_text_does_more_than_be_refused_in_one_line(value, name):
    text = "--"
    try:
        load(values={name: value})
    except SettingsError as error:
        text = str(error)
    assert text.startswith("--")
    assert "\n" not in text


def test_core_flags_hold_every_field_and_its_negation():
    flags = list_core_flags()
    assert {"api-port", "no-recursive", "help", "version", "set", "config-file"} <= flags
    assert "acl" not in flags


def test_the_limit_of_udp_ports_is_the_plugins_now_however_it_is_given(config_file):
    installed = (make_plugin("udp", is_default=True),)
    path = config_file("limit-udp-port = 3")
    for source in (
        {"moved": {"limit-udp-port": 3}},
        {"environment": {"MAESH_LIMIT_UDP_PORT": 3}},
        {"environment": {"TRAEFIK_MESH_LIMITUDPPORT": 3}},
        {"config_file": path},
    ):
        text = {name: str(value) for name, value in source.get("environment", {}).items()}
        assert load(installed=installed, **source | {"environment": text}).settings.plugin_settings == {
            "udp": {"limit": 3 if "environment" not in source else "3"}
        }
    both = load(installed=installed, moved={"limit-udp-port": "3"}, plugin_settings=("udp.limit=4",))
    assert both.settings.plugin_settings == {"udp": {"limit": "4"}}


def test_the_limit_of_udp_ports_is_an_error_where_the_plugin_is_off_and_it_is_typed():
    installed = (make_plugin("udp", is_default=True),)
    with pytest.raises(SettingsError, match="--limit-udp-port: plugin 'udp' is not enabled"):
        load(installed=installed, switches={"udp": False}, moved={"limit-udp-port": "3"})
