//! Schemas of the texts that users write, each with the sentence that the API server says of any other text.
//!
//! Of a text that does not match a `pattern` the API server says nothing but the pattern. So a text has CEL rules with
//! messages ([`TextRule`]). Only the texts of portals have none: the API server limits what a rule may cost for as many
//! objects as the schema admits, and with 131,072 portals not even `isIP` is cheap enough. They have two forms in place of
//! it: an `enum` with a sentence as its only word, and a pattern. Of a text that has neither form the API server says what
//! the first one asks for. The sentence itself is no value, because it is longer than the text may be.
//!
//! Every pattern is valid in RE2 (which the API server uses) and in ECMA 262.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::text_rule::TextRule;

/// What the three kinds of iSCSI names have in common: RFC 7143 section 4.2.7, RFC 3980 for `naa.`.
const IQN: [(TextRule<'_>, &str); 4] = [
    (
        TextRule { of: "", pattern: "^(iqn|eui|naa)[.]" },
        "expected an iSCSI name that starts with iqn., eui. or naa., such as iqn.2003-01.org.example:array-a",
    ),
    (
        TextRule { of: "iqn.", pattern: "^iqn[.][0-9]{4}-(0[1-9]|1[0-2])[.]" },
        "expected a year, '-', a month and '.' after iqn., as in iqn.2003-01.org.example:array-a",
    ),
    (
        TextRule { of: "eui.", pattern: "^eui[.][0-9A-Fa-f]{16}$" },
        "expected 16 hexadecimal digits after eui., as in eui.02004567A425678D",
    ),
    (
        TextRule { of: "naa.", pattern: "^naa[.]([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32})$" },
        "expected 16 or 32 hexadecimal digits after naa., as in naa.52004567BA64678D",
    ),
];

/// What follows the date of a target's name. Without `/` and `..`, see [`iscsi_name`](super::iscsi_name).
const DOMAIN: (TextRule<'_>, &str) = (
    TextRule {
        of: "iqn.",
        pattern: "^iqn[.][0-9-]*[.][A-Za-z0-9](([.]?-)*[.]?[A-Za-z0-9])*(:([.]|([.]?[A-Za-z0-9_:+@=~-])+[.]?))?$",
    },
    "expected after the date a domain, and if there is a ':' then a text of letters, digits and any of -._:+@=~ after it, \
     without '/' and '..', as in iqn.2003-01.org.example:array-a",
);

/// The same as released versions accepted it: also with `/` and `..`. For names that only have to equal a target's name: the
/// API server judges a set as a whole, so an old name in it would forbid every change of the set.
const ANY_DOMAIN: (TextRule<'_>, &str) = (
    TextRule {
        of: "iqn.",
        pattern: "^iqn[.][0-9-]*[.][A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[A-Za-z0-9._:/+@=~-]+)?$",
    },
    "expected after the date a domain, and if there is a ':' then a text of letters, digits and any of -._:/+@=~ after it, \
     as in iqn.2003-01.org.example:array-a",
);

const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const LABEL_SENTENCE: &str =
    "at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit, such as san-a";

const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

const OCTET: &str = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const H16: &str = "[0-9A-Fa-f]{1,4}";

fn ipv4() -> String {
    format!("({OCTET}[.]){{3}}{OCTET}")
}

/// RFC 4291 section 2.2, without the form that ends in an IPv4 address and without zones.
fn ipv6() -> String {
    let mut forms = vec![format!("({H16}:){{7}}{H16}"), format!("({H16}:){{1,7}}:"), format!(":((:{H16}){{1,7}}|:)")];
    forms.extend((1..=6).map(|before| format!("({H16}:){{{before}}}(:{H16}){{1,{}}}", 7 - before)));
    format!("({})", forms.join("|"))
}

/// A DNS name whose last label starts with a letter, so that `10.0.1.300` is not accepted.
const DNS_NAME: &str = "([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.]?";

const ADDRESS_SENTENCE: &str = "an IPv4 address such as 10.0.1.5 (four numbers from 0 to 255), an IPv6 address such as \
    fd00::5 (without brackets, zone and prefix length), or a DNS name such as array.example.com (letters, digits, '-' and \
    '.', and the last part starts with a letter); a port has its own field";

/// The name of a Linux network device: at most 15 bytes (`IFNAMSIZ`, linux/if.h), without slash, colon and space, and
/// neither `.` nor `..` (`dev_valid_name`).
const INTERFACE: &str = "^([.]{0,2}[A-Za-z0-9_@-]|[.]{3})[A-Za-z0-9_.@-]*$";

fn set_of(items: &Value, max: u32) -> Schema {
    json_schema!({"type": "array", "maxItems": max, "items": items, "x-kubernetes-list-type": "set"})
}

/// A text with rules. An empty one is refused by them, so that it gets a sentence, too.
fn text(max: u32, rules: &[(TextRule<'_>, &str)]) -> Value {
    let rules: Vec<Value> =
        rules.iter().map(|(rule, message)| json!({"rule": rule.to_string(), "message": message})).collect();
    json!({"type": "string", "maxLength": max, "x-kubernetes-validations": rules})
}

/// A text with one rule.
fn matching(max: u32, pattern: &str, message: &str) -> Value {
    text(max, &[(TextRule { of: "", pattern }, message)])
}

/// A text without rules.
fn of_portal(max: u32, pattern: &str, sentence: &str) -> Schema {
    json_schema!({"type": "string", "maxLength": max, "anyOf": [{"enum": [sentence]}, {"pattern": pattern}]})
}

fn described(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}

fn label_value() -> Value {
    matching(63, LABEL, &format!("expected {LABEL_SENTENCE}"))
}

fn from(value: Value) -> Schema {
    // `json!` above only builds objects; anything else would be an empty schema, which the CRD tests would show.
    Schema::try_from(value).unwrap_or_default()
}

/// An iSCSI name, of at most 223 bytes.
#[must_use]
pub fn iqn(_: &mut SchemaGenerator) -> Schema {
    from(text(223, &[&IQN[..], &[DOMAIN]].concat()))
}

/// A set of at most 256 iSCSI names.
#[must_use]
pub fn iqn_set(_: &mut SchemaGenerator) -> Schema {
    let description = "An iSCSI name in `iqn.`, `eui.` or `naa.` form, such as `iqn.2003-01.org.example:array-a`.";
    set_of(&described(text(223, &[&IQN[..], &[ANY_DOMAIN]].concat()), description), 256)
}

/// The name of a data center or storage: a DNS label.
#[must_use]
pub fn label(_: &mut SchemaGenerator) -> Schema {
    from(label_value())
}

/// The name of a portal's network: a DNS label.
#[must_use]
pub fn label_of_portal(_: &mut SchemaGenerator) -> Schema {
    of_portal(63, LABEL, LABEL_SENTENCE)
}

/// A set of at most 64 network names.
#[must_use]
pub fn network_set(_: &mut SchemaGenerator) -> Schema {
    let description = "A name of lower-case letters, digits and `-`, starting and ending with a letter or digit.";
    set_of(&described(label_value(), description), 64)
}

/// A DNS subdomain: the name of a Node, or of a Secret.
#[must_use]
pub fn subdomain(_: &mut SchemaGenerator) -> Schema {
    let message = "expected at most 253 lower-case letters, digits, '-' and '.', each part between dots starting and ending \
                   with a letter or digit, such as worker-1.example.com";
    from(matching(253, SUBDOMAIN, message))
}

/// An IPv4 address, an IPv6 address or a DNS name.
#[must_use]
pub fn address(_: &mut SchemaGenerator) -> Schema {
    of_portal(253, &format!("^({}|{}|{DNS_NAME})$", ipv4(), ipv6()), ADDRESS_SENTENCE)
}

/// A set of at most 64 IPv4 or IPv6 subnets in CIDR form.
#[must_use]
pub fn subnet_set(_: &mut SchemaGenerator) -> Schema {
    let pattern = format!("^({}/(3[0-2]|[12]?[0-9])|{}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$", ipv4(), ipv6());
    let message = "expected a subnet in CIDR form, address, '/' and prefix length, such as 10.0.1.0/24 or fd00:1::/64";
    let description = "An IPv4 or IPv6 subnet in CIDR form, such as `10.0.1.0/24` or `fd00:1::/64`.";
    set_of(&described(matching(49, &pattern, message), description), 64)
}

/// The name of a Linux network device.
#[must_use]
pub fn interface_name(_: &mut SchemaGenerator) -> Schema {
    let message = "expected a device's name of at most 15 letters, digits and any of _.@- (but neither '.' nor '..'), such as \
                   ens2f0 or bond0.100";
    from(matching(15, INTERFACE, message))
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

#[cfg(test)]
pub(crate) mod tests {
    use proptest::{prelude::*, string::string_regex};
    use regex::Regex;
    use rstest::rstest;

    use super::*;

    /// Whether the API server takes a text.
    pub(crate) fn admits(schema: fn(&mut SchemaGenerator) -> Schema, text: &str) -> bool {
        let schema = schema(&mut SchemaGenerator::default()).to_value();
        let schema = schema.get("items").unwrap_or(&schema);
        let forms = schema.get("anyOf").and_then(Value::as_array);
        let is_form = |form: &Value| match form["pattern"].as_str() {
            Some(pattern) => Regex::new(pattern).unwrap().is_match(text),
            None => form["enum"].as_array().unwrap().contains(&text.into()),
        };
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        let holds = |rule: &Value| {
            let rule = TextRule::read(rule["rule"].as_str().unwrap()).unwrap();
            rule.is_about(text).is_none_or(|pattern| Regex::new(pattern).unwrap().is_match(text))
        };
        text.chars().count() <= usize::try_from(schema["maxLength"].as_u64().unwrap()).unwrap()
            && forms.is_none_or(|forms| forms.iter().any(is_form))
            && rules.is_none_or(|rules| rules.iter().all(holds))
    }

    /// The patterns of the versions whose schemas had a pattern for each text. They must never refuse more.
    pub(crate) mod released {
        use super::super::{DNS_NAME, ipv4, ipv6};

        pub(crate) const IQN: &str = r"^(iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9]((\.?-)*\.?[A-Za-z0-9])*(:(\.|(\.?[A-Za-z0-9_:+@=~-])+\.?))?|eui\.[0-9A-Fa-f]{16}|naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32}))$";
        pub(crate) const ANY_IQN: &str = r"^(iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[A-Za-z0-9._:/+@=~-]+)?|eui\.[0-9A-Fa-f]{16}|naa\.([0-9A-Fa-f]{16}|[0-9A-Fa-f]{32}))$";
        pub(crate) const INTERFACE: &str = r"^(\.{0,2}[A-Za-z0-9_@-]|\.{3})[A-Za-z0-9_.@-]*$";
        pub(crate) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
        pub(crate) const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

        pub(crate) fn address() -> String {
            format!("^({}|{}|{DNS_NAME})$", ipv4(), ipv6())
        }

        pub(crate) fn subnet() -> String {
            format!("^({}/(3[0-2]|[12]?[0-9])|{}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$", ipv4(), ipv6())
        }
    }

    /// Texts that match a pattern; repetitions without an end are cut.
    pub(crate) fn matching_texts(pattern: &str) -> impl Strategy<Value = String> + use<> {
        let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
        string_regex(&pattern.replace('*', "{0,9}").replace("]+)", "]{1,9})").replace(")+", "){1,9}")).unwrap()
    }

    #[rstest]
    #[case::targets(iqn, released::IQN, 223)]
    #[case::targets_of_bonds(iqn_set, released::ANY_IQN, 223)]
    #[case::labels(label, released::LABEL, 63)]
    #[case::networks_of_portals(label_of_portal, released::LABEL, 63)]
    #[case::networks(network_set, released::LABEL, 63)]
    #[case::subdomains(subdomain, released::SUBDOMAIN, 253)]
    #[case::addresses(address, &released::address(), 253)]
    #[case::subnets(subnet_set, &released::subnet(), 49)]
    #[case::interfaces(interface_name, released::INTERFACE, 15)]
    fn a02_texts_are_admitted_exactly_as_by_the_patterns_of_released_versions(
        #[case] schema: fn(&mut SchemaGenerator) -> Schema,
        #[case] pattern: &str,
        #[case] longest: usize,
    ) {
        let released = Regex::new(pattern).unwrap();
        // A text, a place in it, what to leave out there, and what to put there.
        let edited = (matching_texts(pattern), any::<prop::sample::Index>(), 0..3_usize, "[-0-9a-zA-Z./: _\n]{0,2}");
        let config = ProptestConfig::with_cases(multibond_testbed::cases(300));
        proptest!(config, |((good, at, left_out, put) in edited)| {
            for text in [good.clone(), {
                let at = at.index(good.len());
                let rest = good.get(at + left_out..).unwrap_or_default();
                format!("{}{put}{rest}", &good[..at])
            }] {
                let expected = text.chars().count() <= longest && released.is_match(&text);
                prop_assert_eq!(admits(schema, &text), expected, "{:?}", text);
            }
        });
    }

    #[rstest]
    #[case::address(address)]
    #[case::network(label_of_portal)]
    fn the_sentence_about_a_text_of_a_portal_is_no_value_of_it(#[case] schema: fn(&mut SchemaGenerator) -> Schema) {
        let value = schema(&mut SchemaGenerator::default()).to_value();
        let sentence = value["anyOf"][0]["enum"][0].as_str().unwrap();
        assert!(sentence.chars().count() > usize::try_from(value["maxLength"].as_u64().unwrap()).unwrap());
        assert!(!admits(schema, sentence));
    }
}
