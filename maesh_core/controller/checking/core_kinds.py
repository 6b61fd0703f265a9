"""The kinds of findings that the core reports, by code; plugins name their own (plugin_system/policy_checks.py).

MSH1xx are about files and objects, MSH2xx about Services, MSH3xx about rules, their matches and weights. Values only. A
code is never reused for another kind of finding. docs/check.md lists all of them, each with a case in the tests.
"""

from typing import Final

from maesh_core.plugin_system.policy_checks import FindingKind

SERVICE = ("Service",)
RULE_PLACE: Final = r"(?:rules\[\d+\]|rule \S+)"
"""How texts name a rule: by its index, or by its own name (`RuleProblem.place`)."""

UNREADABLE_FILE = FindingKind(
    code="MSH101",
    severity="error",
    title="a file or folder cannot be read",
    hint="correct the path, the permissions or the encoding (UTF-8)",
    patterns=(
        "is not a regular file",
        r"has \d+ bytes; the limit is \d+",
        "grew above the limit of .*",
        "is a broken link",
        "(?:folder )?cannot be read: .*",
        "not UTF-8: .*",
        "no longer exists",
    ),
)
MALFORMED_TEXT = FindingKind(
    code="MSH102",
    severity="error",
    title="a document is neither valid YAML nor valid JSON",
    hint="correct the syntax; the other documents of the file are read",
    patterns=("not YAML.*", "not JSON.*"),
)
NOT_AN_OBJECT = FindingKind(
    code="MSH103",
    severity="error",
    title="a document is not a Kubernetes object",
    hint="give it apiVersion, kind and metadata, or move it out of the checked paths",
    patterns=("is not a Kubernetes object.*", "lists are nested more than .*", "nests too deeply"),
)
INVALID_OBJECT = FindingKind(
    code="MSH104",
    severity="error",
    title="an object has a value that an API server refuses",
    hint="correct the field; the mesh does not use the object",
)
DEFINED_TWICE = FindingKind(
    code="MSH105",
    severity="error",
    title="an object is defined more than once",
    hint="remove all definitions but one; the first file in alphabetical order is used",
    patterns=(".* already; that one is used, not the one in .*",),
)
UNREAD_OBJECT = FindingKind(
    code="MSH106",
    severity="warning",
    title="nothing reads an object that looks like one of the mesh",
    hint="correct its kind or version, or enable the plugin that reads it",
    patterns=("skipped, because nothing reads .*",),
)
USELESS_FILE = FindingKind(
    code="MSH107",
    severity="notice",
    title="a file or folder has nothing that the mesh reads",
    hint="correct the path, or check subfolders too (-R)",
    patterns=(
        "contains no manifest",
        "contains nothing that the mesh reads: .*",
        "none of its files contains anything that the mesh reads.*",
    ),
)
UNUSABLE_OBJECT = FindingKind(
    code="MSH108",
    severity="error",
    title="an object has an unknown or invalid field, so it is not used",
    hint="correct the field: a misspelt limit would limit nothing, so the whole object is refused",
    patterns=(r"\S+ '.*' is not used: .*",),
)
MORE_PROBLEMS = FindingKind(
    code="MSH109",
    severity="error",
    title="a file has more problems than are reported",
    hint="correct the reported ones, and check again",
    patterns=(r"has \d+ more .*",),
)
UNREFERENCED = FindingKind(
    code="MSH110",
    severity="warning",
    title="an object has no effect, because no other object refers to it",
    hint="refer to it, or remove it",
    patterns=("no .* refers to it, so it has no effect",),
)
FAILED_CHECK = FindingKind(
    code="MSH111",
    severity="error",
    title="a plugin failed on an object",
    hint="report the error to the authors of the plugin; the mesh does not use the object",
    patterns=("it could not be (?:checked|read): .*",),
)
FAILED_CHECKER = FindingKind(
    code="MSH112",
    severity="error",
    title="the checker of a plugin failed, so its findings are missing",
    hint="report the error to the authors of the plugin",
)
NOTHING_TO_CHECK = FindingKind(
    code="MSH113",
    severity="error",
    title="a folder has no manifest, or all paths together have nothing that the mesh reads",
    hint="correct the path, or check subfolders too (-R)",
    patterns=("no file in it ends in .*",),
)
OTHER_ERROR = FindingKind(
    code="MSH198", severity="error", title="another error of an object", hint="see the text of the finding"
)
OTHER_NOTICE = FindingKind(
    code="MSH199", severity="notice", title="another notice about an object", hint="see the text of the finding"
)

UNKNOWN_TRAFFIC_TYPE = FindingKind(
    code="MSH206",
    severity="error",
    title="a Service has an unknown traffic type, so it is closed",
    hint="correct the annotation traffic-type, or enable the plugin of this type",
    patterns=(
        ".*no enabled plugin supports traffic type .*",
        r".*annotation \S*traffic-type: .* is not a traffic type",
    ),
    kinds=SERVICE,
)
UNKNOWN_ANNOTATION = FindingKind(
    code="MSH202",
    severity="warning",
    title="no enabled plugin reads an annotation",
    hint="correct its name, or enable the plugin that reads it",
    patterns=(r"annotation \S+: no enabled plugin reads it.*",),
    kinds=SERVICE,
)
WRONG_PREFIX = FindingKind(
    code="MSH203",
    severity="warning",
    title="an annotation lacks the prefix of the mesh",
    hint="write it as maesh.containo.us/NAME",
    patterns=(r"annotation \S+: it has no effect (?:with this prefix|without a prefix).*",),
    kinds=SERVICE,
)
UNKNOWN_PORT = FindingKind(
    code="MSH204",
    severity="warning",
    title="an annotation is for a port that the Service does not have",
    hint="correct the name or number of the port in front of the dot",
    patterns=(r"annotation \S+: the service has no port .*",),
    kinds=SERVICE,
)
USELESS_ANNOTATION = FindingKind(
    code="MSH205",
    severity="warning",
    title="an annotation has no effect on this Service",
    hint="remove it, or correct the annotation on which it depends",
    patterns=(r"annotation \S+: (?:it )?has no effect.*",),
    kinds=SERVICE,
)
INVALID_ANNOTATION = FindingKind(
    code="MSH201",
    severity="error",
    title="an annotation has an invalid value, so the Service is closed",
    hint="correct the value; until then, HTTP clients get 404, or 403 with access control, and others no connection",
    patterns=(
        r"(?:port \S+: )?(?:namespace \S+: )?annotation \S+: .*",
        r"(?:port \S+: )?annotations \S+ and \S+ .*",
    ),
    kinds=SERVICE,
)
NO_SUITABLE_PORT = FindingKind(
    code="MSH207",
    severity="error",
    title="a Service has no port for its traffic type, so it is closed",
    hint="correct the protocol of a port, or the traffic type",
    patterns=("no port for traffic type .*",),
    kinds=SERVICE,
)
NO_ENTRYPOINT = FindingKind(
    code="MSH208",
    severity="error",
    title="a port of a Service gets no entrypoint",
    hint="raise the limit of entrypoints, such as --limit-tcp-port, or remove unused ports",
    patterns=(r"(?:port \S+: )?port \d+ has no entrypoint.*",),
    kinds=SERVICE,
)
UNKNOWN_APP_PROTOCOL = FindingKind(
    code="MSH209",
    severity="notice",
    title="the appProtocol of a port is not supported",
    hint="use a supported one, such as http, https, kubernetes.io/h2c or tcp, or the annotation scheme",
    patterns=(r"port \d+: appProtocol .* is not supported.*",),
    kinds=SERVICE,
)
OTHER_PROTOCOL = FindingKind(
    code="MSH210",
    severity="warning",
    title="the traffic type of a Service does not support the protocol of a port",
    hint="give the port a traffic type of its own",
    patterns=(r"port \d+ is \w+, which \S+ does not support.*",),
    kinds=SERVICE,
)
WRONG_NAME = FindingKind(
    code="MSH211",
    severity="error",
    title="the name of a Service or namespace cannot be part of a host name",
    hint="rename it",
    patterns=(r".* is not a DNS label, which a .* must be",),
    kinds=SERVICE,
)
UNENCRYPTABLE = FindingKind(
    code="MSH212",
    severity="error",
    title="the traffic of a Service cannot be encrypted as required",
    hint="correct the mode of the Service or of its namespace",
    patterns=(".* cannot be encrypted, but .*", "its mode is .*, but its namespace .* requires .* encryption"),
    kinds=SERVICE,
)
NO_SERVER = FindingKind(
    code="MSH213",
    severity="warning",
    title="a port of a Service has no ready server",
    hint="correct the selector, the target port or the readiness of its pods; requests are answered with 503",
)
UNUSABLE_ENDPOINT = FindingKind(
    code="MSH214",
    severity="warning",
    title="an endpoint of a Service cannot be used",
    hint="correct the EndpointSlice, or the name of the target port",
    patterns=(
        r"(?:EndpointSlice|Endpoints|Pod) \S+: .*",
        r"port \d+: \S+ has no \w+ port .*",
        r"port \d+: no \w+ port of its endpoints is named .*",
        r"port \d+: \S+ is not a valid port and is ignored",
    ),
    kinds=SERVICE,
)
CLUSTER_ADDRESS = FindingKind(
    code="MSH215",
    severity="notice",
    title="a cluster address of a Service is not used",
    hint="correct it, or remove it: an API server assigns one",
    patterns=("cluster address .*",),
    kinds=SERVICE,
)
INVALID_PORT = FindingKind(
    code="MSH216",
    severity="error",
    title="a port of a Service is invalid",
    hint="correct its number",
    patterns=(r"port -?\d+ is not a port number", r"port \d+ \w+ appears twice"),
    kinds=SERVICE,
)
FAILED_BUILD = FindingKind(
    code="MSH217",
    severity="error",
    title="a plugin failed on a Service, or plugins contradict each other, so the Service is closed",
    hint="report the error to the authors of the plugin, or disable one of the plugins",
    patterns=(
        r"the \w+ of this service could not be built: .*",
        "its traffic type (?:returned|does not support) .*",
        r"both \S+ and \S+ define .*",
        "several builders define .*",
        r"\S+: this controller does not support .*",
    ),
    kinds=SERVICE,
)
OUTSIDE_SERVICE = FindingKind(
    code="MSH218",
    severity="notice",
    title="the mesh does not route an ExternalName Service, because the plugin egress is off",
    hint="enable the plugin egress with --egress and egress.allow, if the Service should be part of the mesh",
)
OTHER_SERVICE_ERROR = FindingKind(
    code="MSH298",
    severity="error",
    title="another error of a Service, which is closed",
    hint="see the text of the finding",
)
OTHER_SERVICE_NOTICE = FindingKind(
    code="MSH299", severity="notice", title="another notice about a Service", hint="see the text of the finding"
)

NEVER_REACHED = FindingKind(
    code="MSH301",
    severity="warning",
    title="a rule is never reached, because earlier rules get all of its requests",
    hint="make the earlier rule more specific, or remove this one",
)
REDUNDANT_MATCH = FindingKind(
    code="MSH302",
    severity="notice",
    title="a match adds nothing, because earlier ones get all of its requests",
    hint="remove it, or make the earlier match more specific",
)
IMPOSSIBLE_MATCH = FindingKind(
    code="MSH303",
    severity="warning",
    title="a match holds for no request",
    hint="correct the condition: a path begins with / and has no query, and methods are in capital letters",
)
IDLE_BACKEND = FindingKind(
    code="MSH304",
    severity="warning",
    title="a backend has a share of the traffic, but no ready server",
    hint="deploy its pods first, or give it the weight 0",
)
NO_WEIGHT = FindingKind(
    code="MSH305",
    severity="error",
    title="all backends have the weight 0, so requests are answered with an error",
    hint="give a backend a weight, or remove the rule",
)
TINY_SHARE = FindingKind(
    code="MSH306",
    severity="notice",
    title="a share is so small that few processes ever meet it",
    hint="use coarser weights: each worker of each proxy counts its own requests",
)
RULE_ERROR = FindingKind(
    code="MSH307",
    severity="error",
    title="a rule has an error, so its requests are answered with an error",
    hint="see the text of the finding",
    patterns=(
        rf"(?:{RULE_PLACE}: )?(?:the name .* of a rule|there are more than|the weight of a backend|a match is left) .*",
        r"more than \d+ namespaces have rules",
    ),
)

CORE_KINDS: Final = (
    *(UNREADABLE_FILE, MALFORMED_TEXT, NOT_AN_OBJECT, INVALID_OBJECT, DEFINED_TWICE, UNREAD_OBJECT, USELESS_FILE),
    *(UNUSABLE_OBJECT, MORE_PROBLEMS, UNREFERENCED, FAILED_CHECK, FAILED_CHECKER),
    *(NOTHING_TO_CHECK, OTHER_ERROR, OTHER_NOTICE),
    *(UNKNOWN_TRAFFIC_TYPE, UNKNOWN_ANNOTATION, WRONG_PREFIX, UNKNOWN_PORT, USELESS_ANNOTATION, INVALID_ANNOTATION),
    *(NO_SUITABLE_PORT, NO_ENTRYPOINT, UNKNOWN_APP_PROTOCOL, OTHER_PROTOCOL, WRONG_NAME, UNENCRYPTABLE, NO_SERVER),
    *(UNUSABLE_ENDPOINT, CLUSTER_ADDRESS, INVALID_PORT, FAILED_BUILD, OUTSIDE_SERVICE, OTHER_SERVICE_ERROR),
    OTHER_SERVICE_NOTICE,
    *(NEVER_REACHED, REDUNDANT_MATCH, IMPOSSIBLE_MATCH, IDLE_BACKEND, NO_WEIGHT, TINY_SHARE, RULE_ERROR),
)
"""In the order in which their patterns are tried."""
