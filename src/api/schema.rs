//! Schemas of the texts that users write. They use patterns, because a CEL rule for each text would cost too much.
//!
//! Every pattern is valid in RE2 (which the API server uses) and in ECMA 262.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// `iqn.`, `eui.` and `naa.` names: RFC 7143 section 4.2.7, RFC 3980 for `naa.`; at most 223 bytes. Without `/` and `..`,
/// see [`iscsi_name`](super::iscsi_name).
pub const IQN: &str = r"^(iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9]((\.?-)*\.?[A-Za-z0-9])*(:(\.|(\.?[A-Za-z0-9_:+@=~-])+\.?))?|eui\.[0-9A-Fa-f]{16}|naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32}))$";

/// The names that released versions accepted: also with `/` and `..`. For names that only have to equal a target's name:
/// the API server judges a set as a whole, so an old name in it would forbid every change of the set.
pub const ANY_IQN: &str = r"^(iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[A-Za-z0-9._:/+@=~-]+)?|eui\.[0-9A-Fa-f]{16}|naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32}))$";

const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const H16: &str = "[0-9A-Fa-f]{1,4}";

fn ipv4() -> String {
    format!(r"({OCTET}\.){{3}}{OCTET}")
}

/// RFC 4291 section 2.2, without the form that ends in an IPv4 address and without zones.
fn ipv6() -> String {
    let mut forms = vec![format!("({H16}:){{7}}{H16}"), format!("({H16}:){{1,7}}:"), format!(":((:{H16}){{1,7}}|:)")];
    forms.extend((1..=6).map(|before| format!("({H16}:){{{before}}}(:{H16}){{1,{}}}", 7 - before)));
    format!("({})", forms.join("|"))
}

/// A DNS name whose last label starts with a letter, so that `10.0.1.300` is not accepted.
const DNS_NAME: &str = r"([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?";

fn set_of(items: &Value, max: u32) -> Schema {
    json_schema!({"type": "array", "maxItems": max, "items": items, "x-kubernetes-list-type": "set"})
}

fn iqn_value(pattern: &str) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 223, "pattern": pattern,
        "description": "An iSCSI name in `iqn.`, `eui.` or `naa.` form, such as `iqn.2003-01.org.example:array-a`."})
}

fn label_value() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "description": "A name of lower-case letters, digits and `-`, starting and ending with a letter or digit."})
}

fn from(value: Value) -> Schema {
    // `json!` above only builds objects; anything else would be an empty schema, which the CRD tests would show.
    Schema::try_from(value).unwrap_or_default()
}

/// An iSCSI name.
#[must_use]
pub fn iqn(_: &mut SchemaGenerator) -> Schema {
    from(iqn_value(IQN))
}

/// A set of at most 256 iSCSI names.
#[must_use]
pub fn iqn_set(_: &mut SchemaGenerator) -> Schema {
    set_of(&iqn_value(ANY_IQN), 256)
}

/// The name of a data center, network or storage: a DNS label.
#[must_use]
pub fn label(_: &mut SchemaGenerator) -> Schema {
    from(label_value())
}

/// A set of at most 64 network names.
#[must_use]
pub fn network_set(_: &mut SchemaGenerator) -> Schema {
    set_of(&label_value(), 64)
}

/// A DNS subdomain: the name of a Node, or of a Secret.
#[must_use]
pub fn subdomain(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"})
}

/// An IPv4 address, an IPv6 address or a DNS name.
#[must_use]
pub fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253,
        "pattern": format!("^({}|{}|{DNS_NAME})$", ipv4(), ipv6())})
}

/// A set of at most 64 IPv4 or IPv6 subnets in CIDR form.
#[must_use]
pub fn subnet_set(_: &mut SchemaGenerator) -> Schema {
    let pattern = format!("^({}/(3[0-2]|[12]?[0-9])|{}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$", ipv4(), ipv6());
    let description = "An IPv4 or IPv6 subnet in CIDR form, such as `10.0.1.0/24` or `fd00:1::/64`.";
    set_of(&json!({"type": "string", "maxLength": 49, "pattern": pattern, "description": description}), 64)
}

/// The name of a Linux network device: at most 15 bytes (`IFNAMSIZ`, linux/if.h), without slash, colon and space, and
/// neither `.` nor `..` (`dev_valid_name`).
#[must_use]
pub fn interface_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 1, "maxLength": 15, "pattern": r"^(\.{0,2}[A-Za-z0-9_@-]|\.{3})[A-Za-z0-9_.@-]*$"})
}

/// A text for people, at most 4000 characters.
#[must_use]
pub fn description(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "maxLength": 4000})
}

/// A point in time, RFC 3339. The API server's own check of `date-time` admits more than that, such as offsets of 99 hours;
/// years beyond 9998 do not fit into a timestamp.
const TIME: &str = r"^([0-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// A point in time, RFC 3339.
#[must_use]
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "pattern": TIME})
}

/// A list of metav1 conditions, a map by `type`.
#[must_use]
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Which aspect."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the object that this was judged from."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "pattern": TIME,
                    "description": "When the status last changed."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, as one word; the words are listed in the documentation."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, for people."}
            }
        }
    })
}
