//! What `multibond check` finds: whether a cluster is ready for Multibond, and whether Multibond works in it.
//!
//! [`gather()`] asks the cluster and judges nothing; [`judge()`] is a pure function of what it was told.

mod facts;
mod gather;
mod judge;
mod rights;

use std::cmp::Reverse;

use serde::Serialize;

pub(crate) use gather::gather;
pub(crate) use judge::judge;

/// The page that says what to do about each line.
const DOCUMENTATION: &str = "docs/troubleshooting.md";

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Whether Multibond can be installed.
    Before,
    /// Whether it works.
    After,
}

/// How a line has come out, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// As it should be.
    Ok,
    /// Not looked at, because it could not or may not be read.
    Skipped,
    /// It works, and wants attention.
    Warning,
    /// It does not work.
    Error,
}

/// A heading over some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// The cluster itself.
    Kubernetes,
    /// What whoever asks may do.
    Permissions,
    /// What is there before Multibond.
    Place,
    /// The four kinds, and who may write them.
    Definitions,
    /// What decides.
    Controller,
    /// What carries out.
    Agents,
    /// The machines.
    Hosts,
    /// Data centers, networks and bonds.
    Declared,
    /// What is not let go.
    Held,
}

impl Section {
    /// The heading.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Section::Kubernetes => "Kubernetes",
            Section::Permissions => "Permissions to install",
            Section::Place => "What is there already",
            Section::Definitions => "CRDs and policies",
            Section::Controller => "Controller",
            Section::Agents => "Agents",
            Section::Hosts => "Hosts",
            Section::Declared => "What is declared",
            Section::Held => "What is held back",
        }
    }
}

/// The lines of the reports, in their order: what should be, and where the documentation says what to do if it is not.
macro_rules! checks {
    ($($check:ident in $section:ident: $title:literal, $anchor:literal;)+) => {
        /// A line of the report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Check { $(#[doc = $title] $check),+ }

        impl Check {
            /// Every line that a report can have.
            pub const ALL: &'static [Check] = &[$(Check::$check),+];

            /// The heading that it stands under.
            #[must_use]
            pub fn section(self) -> Section {
                match self { $(Check::$check => Section::$section),+ }
            }

            /// What should be.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Check::$check => $title),+ }
            }

            /// Where the documentation says what to do if it is not: a heading of `docs/troubleshooting.md`.
            #[must_use]
            pub fn anchor(self) -> &'static str {
                match self { $(Check::$check => $anchor),+ }
            }
        }
    };
}

checks! {
    ServerAnswers in Kubernetes: "the API server answers", "the-cluster-does-not-answer";
    KubernetesVersion in Kubernetes: "it is new enough", "the-cluster-is-too-old";
    PoliciesServed in Kubernetes: "it has validating admission policies", "the-cluster-is-too-old";
    MayDefineKinds in Permissions: "you may make CRDs", "you-may-not-install";
    MayMakeRoles in Permissions: "you may make cluster roles and bind them", "you-may-not-install";
    MayGrant in Permissions: "you may grant rights that you do not have", "you-may-not-install";
    MayMakePolicies in Permissions: "you may make admission policies", "you-may-not-install";
    MayMakeObjects in Permissions: "you may make what the chart has in its namespace", "you-may-not-install";
    NamespaceAdmits in Place: "the namespace admits the agents", "the-namespace-refuses-the-agents";
    DefinitionsFree in Place: "no CRD is in the way", "a-crd-is-in-the-way";
    DefinitionsEstablished in Definitions: "the four CRDs are established", "multibond-is-not-installed";
    DefinitionsCurrent in Definitions: "they are those of this version", "a-crd-is-of-another-version";
    PoliciesInForce in Definitions: "the chart's admission policies are in force", "an-admission-policy-is-missing";
    ControllerAvailable in Controller: "its Deployment is available", "no-controller-leads";
    ControllerLeads in Controller: "one of its replicas leads", "no-controller-leads";
    ControllerVersion in Controller: "it is of this version", "versions-differ";
    AgentsReady in Agents: "one is ready on each node that is to have one", "a-node-has-no-agent";
    AgentsAlive in Agents: "each Host's agent renews its lease", "a-node-has-no-agent";
    AgentsVersion in Agents: "they are of this version", "versions-differ";
    InitiatorNames in Hosts: "each has an initiator name of its own", "two-hosts-have-one-initiator-name";
    HostsPrepared in Hosts: "nothing on them wants attention", "something-on-a-host-wants-attention";
    HostsOperational in Hosts: "each reaches its storage", "a-host-is-nonoperational";
    ObjectsReadable in Declared: "every object can be decoded", "an-object-cannot-be-decoded";
    ConditionsHold in Declared: "no data center, network or bond complains", "a-bond-or-data-center-complains";
    DeletionsEnd in Held: "no deletion hangs", "a-deletion-hangs";
    MarksExplained in Held: "every mark on a Node is a Host's", "a-node-keeps-a-taint-or-condition";
}

/// Something that was found, and how bad it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    outcome: Outcome,
    text: String,
}

impl Finding {
    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Finding { outcome: Outcome::Ok, text: text.into() }
    }

    pub(crate) fn skipped(text: impl Into<String>) -> Self {
        Finding { outcome: Outcome::Skipped, text: text.into() }
    }

    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Finding { outcome: Outcome::Warning, text: text.into() }
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Finding { outcome: Outcome::Error, text: text.into() }
    }
}

/// A line: what should be, how it is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// The heading that it stands under.
    pub section: Section,
    /// Which line it is.
    pub check: Check,
    /// How it has come out.
    pub outcome: Outcome,
    /// What should be.
    pub title: &'static str,
    /// What was found, the worst first.
    pub found: Vec<String>,
    /// What to do; nothing when nothing is to be done.
    pub hint: Option<String>,
    /// Where there is more about it.
    pub documentation: String,
}

impl Check {
    /// The line: as bad as the worst of its findings. What is good, and what could not be looked at, asks for nothing.
    pub(crate) fn line(self, mut findings: Vec<Finding>, hint: impl Into<String>) -> Line {
        findings.sort_by_key(|finding| Reverse(finding.outcome));
        findings.dedup();
        let outcome = findings.first().map_or(Outcome::Ok, |worst| worst.outcome);
        // What is well is no news beside what is not.
        findings.retain(|finding| finding.outcome != Outcome::Ok || outcome == Outcome::Ok);
        Line {
            section: self.section(),
            check: self,
            outcome,
            title: self.title(),
            found: findings.into_iter().map(|finding| finding.text).collect(),
            hint: (outcome >= Outcome::Warning).then(|| hint.into()),
            documentation: format!("{DOCUMENTATION}#{}", self.anchor()),
        }
    }
}

/// All lines, in the order of the documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The version of this program, which the cluster is compared with.
    pub version: &'static str,
    /// Where the release is, or is to be.
    pub namespace: String,
    /// The worst of its lines; what was skipped makes it no worse.
    pub outcome: Outcome,
    /// How each has come out.
    pub lines: Vec<Line>,
}

impl Report {
    fn new(namespace: &str, lines: Vec<Line>) -> Self {
        let outcomes = lines.iter().map(|line| line.outcome).filter(|outcome| *outcome != Outcome::Skipped);
        Report {
            version: VERSION,
            namespace: namespace.to_owned(),
            outcome: outcomes.max().unwrap_or(Outcome::Ok),
            lines,
        }
    }
}

/// The version of this program, and of the chart and the agents that belong to it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_bad_as_the_worst_that_was_found_and_begins_with_it() {
        let findings =
            vec![Finding::ok("fine"), Finding::skipped("unseen"), Finding::error("broken"), Finding::warning("odd")];
        let line = Check::AgentsAlive.line(findings, "mend it");
        assert_eq!((line.outcome, line.hint.as_deref()), (Outcome::Error, Some("mend it")));
        assert_eq!(line.found, ["broken", "odd", "unseen"]);
        assert_eq!(line.documentation, "docs/troubleshooting.md#a-node-has-no-agent");
    }

    #[test]
    fn what_is_well_or_unseen_asks_for_nothing() {
        for (findings, outcome) in [
            (vec![], Outcome::Ok),
            (vec![Finding::ok("2/2")], Outcome::Ok),
            (vec![Finding::ok("2/2"), Finding::skipped("unseen")], Outcome::Skipped),
        ] {
            let line = Check::AgentsReady.line(findings, "mend it");
            assert_eq!((line.outcome, line.hint), (outcome, None));
        }
    }

    #[test]
    fn what_was_skipped_makes_a_report_no_worse() {
        let line = |findings| Check::AgentsReady.line(findings, "");
        let of = |lines| Report::new("ns", lines).outcome;
        assert_eq!(of(vec![line(vec![Finding::skipped("unseen")]), line(vec![])]), Outcome::Ok);
        assert_eq!(of(vec![line(vec![Finding::warning("odd")]), line(vec![])]), Outcome::Warning);
        assert_eq!(of(vec![line(vec![Finding::warning("odd")]), line(vec![Finding::error("broken")])]), Outcome::Error);
    }
}
