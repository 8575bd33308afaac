//! `multibond check`: whether a cluster is ready for Multibond, and whether Multibond works in it.
//!
//! [`gather()`] requests facts from the cluster and judges nothing; [`judge()`] is a pure function of these facts.

mod facts;
mod gather;
mod judge;
mod permissions;

use std::cmp::Reverse;

use serde::Serialize;

pub(crate) use gather::gather;
pub(crate) use judge::judge;

/// The page that explains each line.
const DOCUMENTATION: &str = "docs/troubleshooting.md";

/// The time of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before an installation: whether Multibond can be installed.
    Before,
    /// After an installation: whether Multibond works.
    After,
}

/// The outcome of a check, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckOutcome {
    /// All is well.
    Ok,
    /// Not checked: the facts could not be read, or the caller lacks the permission.
    Skipped,
    /// It works, but needs attention.
    Warning,
    /// It does not work.
    Error,
}

/// A group of lines under one heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// The cluster itself.
    Kubernetes,
    /// The caller's permissions.
    Permissions,
    /// Objects that exist before the installation.
    Place,
    /// The CRDs and admission policies.
    Definitions,
    /// The controller.
    Controller,
    /// The agents.
    Agents,
    /// The hosts.
    Hosts,
    /// Data centers, networks and bonds.
    Declared,
    /// Deletions, and taints and conditions of Nodes.
    Held,
}

impl Section {
    /// The heading.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Section::Kubernetes => "Kubernetes",
            Section::Permissions => "Permissions to install",
            Section::Place => "Existing objects",
            Section::Definitions => "CRDs and policies",
            Section::Controller => "Controller",
            Section::Agents => "Agents",
            Section::Hosts => "Hosts",
            Section::Declared => "Data centers, networks and bonds",
            Section::Held => "Deletions and Nodes",
        }
    }
}

/// The lines of the reports, in their order: what should hold, and the anchor in the documentation that says what to do
/// if it does not.
macro_rules! checks {
    ($($check:ident in $section:ident: $title:literal, $anchor:literal;)+) => {
        /// A line of the report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Check { $(#[doc = $title] $check),+ }

        impl Check {
            /// Every line of both stages.
            pub const ALL: &'static [Check] = &[$(Check::$check),+];

            /// The group that it belongs to.
            #[must_use]
            pub fn section(self) -> Section {
                match self { $(Check::$check => Section::$section),+ }
            }

            /// The sentence that should be true.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Check::$check => $title),+ }
            }

            /// The heading of `docs/troubleshooting.md` that says what to do if it does not hold.
            #[must_use]
            pub fn anchor(self) -> &'static str {
                match self { $(Check::$check => $anchor),+ }
            }
        }
    };
}

checks! {
    ServerAnswers in Kubernetes: "the API server answers", "the-cluster-does-not-answer";
    KubernetesVersion in Kubernetes: "Kubernetes is new enough", "the-cluster-is-too-old";
    PoliciesServed in Kubernetes: "Kubernetes serves validating admission policies", "the-cluster-is-too-old";
    MayDefineKinds in Permissions: "you can create CRDs", "you-may-not-install";
    MayMakeRoles in Permissions: "you can create and bind cluster roles", "you-may-not-install";
    MayGrant in Permissions: "you can grant permissions that you do not have", "you-may-not-install";
    MayMakePolicies in Permissions: "you can create admission policies", "you-may-not-install";
    MayMakeObjects in Permissions: "you can create the chart's objects in its namespace", "you-may-not-install";
    NamespaceAdmits in Place: "the namespace admits the agents", "the-namespace-refuses-the-agents";
    DefinitionsFree in Place: "no existing CRD blocks the installation", "a-crd-is-in-the-way";
    DefinitionsEstablished in Definitions: "the four CRDs are established", "multibond-is-not-installed";
    DefinitionsCurrent in Definitions: "the CRDs are of this version", "a-crd-is-of-another-version";
    PoliciesInForce in Definitions: "the chart's admission policies are in force", "an-admission-policy-is-missing";
    ControllerAvailable in Controller: "the controller's Deployment is available", "no-controller-leads";
    ControllerLeads in Controller: "a replica of the controller leads", "no-controller-leads";
    ControllerVersion in Controller: "the controller is of this version", "versions-differ";
    AgentsReady in Agents: "an agent is ready on every selected node", "a-node-has-no-agent";
    AgentsAlive in Agents: "the agent of every Host renews its lease", "a-node-has-no-agent";
    AgentsVersion in Agents: "the agents are of this version", "versions-differ";
    InitiatorNames in Hosts: "every host has a unique initiator name", "two-hosts-have-one-initiator-name";
    HostsPrepared in Hosts: "no host reports a warning", "something-on-a-host-wants-attention";
    HostsOperational in Hosts: "every host reaches its storage", "a-host-is-nonoperational";
    ObjectsReadable in Declared: "every object can be decoded", "an-object-cannot-be-decoded";
    ConditionsHold in Declared: "no data center, network or bond reports a problem", "a-bond-or-data-center-complains";
    DeletionsEnd in Held: "no deletion is stuck", "a-deletion-hangs";
    MarksExplained in Held: "every taint and condition on a Node belongs to a Host", "a-node-keeps-a-taint-or-condition";
}

/// One result within a line: what was found, and how bad it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    outcome: CheckOutcome,
    text: String,
    /// The heading that says what to do, where it is not the one of the check.
    anchor: Option<&'static str>,
}

impl Finding {
    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Finding { outcome: CheckOutcome::Ok, text: text.into(), anchor: None }
    }

    pub(crate) fn skipped(text: impl Into<String>) -> Self {
        Finding { outcome: CheckOutcome::Skipped, text: text.into(), anchor: None }
    }

    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Finding { outcome: CheckOutcome::Warning, text: text.into(), anchor: None }
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Finding { outcome: CheckOutcome::Error, text: text.into(), anchor: None }
    }

    /// The finding, explained under this heading of `docs/troubleshooting.md`.
    pub(crate) fn explained_at(self, anchor: &'static str) -> Self {
        Finding { anchor: Some(anchor), ..self }
    }
}

/// A line of the report: what should hold, what was found, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// The group that it belongs to.
    pub section: Section,
    /// The check.
    pub check: Check,
    /// The worst of its findings.
    pub outcome: CheckOutcome,
    /// The sentence that should be true.
    pub title: &'static str,
    /// The findings, the worst first.
    pub found: Vec<String>,
    /// The advice; none if the outcome is `Ok` or `Skipped`.
    pub hint: Option<String>,
    /// The page and heading that explain the line: its first finding.
    pub documentation: String,
}

impl Check {
    /// The line with these findings. It has the worst outcome of them. The hint is kept for warnings and errors only.
    pub(crate) fn line(self, mut findings: Vec<Finding>, hint: impl Into<String>) -> Line {
        findings.sort_by_key(|finding| Reverse(finding.outcome));
        findings.dedup();
        let outcome = findings.first().map_or(CheckOutcome::Ok, |worst| worst.outcome);
        let anchor = findings.first().and_then(|worst| worst.anchor).unwrap_or(self.anchor());
        // Beside a problem, good findings would only distract.
        findings.retain(|finding| finding.outcome != CheckOutcome::Ok || outcome == CheckOutcome::Ok);
        Line {
            section: self.section(),
            check: self,
            outcome,
            title: self.title(),
            found: findings.into_iter().map(|finding| finding.text).collect(),
            hint: (outcome >= CheckOutcome::Warning).then(|| hint.into()),
            documentation: format!("{DOCUMENTATION}#{anchor}"),
        }
    }
}

/// All lines of a stage, in the order of the documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct CheckReport {
    /// The version of this program, which the cluster is compared with.
    pub version: &'static str,
    /// The namespace of the release.
    pub namespace: String,
    /// The worst outcome of the lines; skipped lines do not count.
    pub outcome: CheckOutcome,
    /// The lines.
    pub lines: Vec<Line>,
}

impl CheckReport {
    fn new(namespace: &str, lines: Vec<Line>) -> Self {
        let outcomes = lines.iter().map(|line| line.outcome).filter(|outcome| *outcome != CheckOutcome::Skipped);
        CheckReport {
            version: VERSION,
            namespace: namespace.to_owned(),
            outcome: outcomes.max().unwrap_or(CheckOutcome::Ok),
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
    fn a_line_has_the_outcome_of_its_worst_finding_and_begins_with_it() {
        let findings = vec![
            Finding::ok("fine"),
            Finding::skipped("unavailable"),
            Finding::error("broken"),
            Finding::warning("odd"),
        ];
        let line = Check::AgentsAlive.line(findings, "mend it");
        assert_eq!((line.outcome, line.hint.as_deref()), (CheckOutcome::Error, Some("mend it")));
        assert_eq!(line.found, ["broken", "odd", "unavailable"]);
        assert_eq!(line.documentation, "docs/troubleshooting.md#a-node-has-no-agent");
    }

    #[test]
    fn ok_and_skipped_lines_have_no_hint() {
        for (findings, outcome) in [
            (vec![], CheckOutcome::Ok),
            (vec![Finding::ok("2/2")], CheckOutcome::Ok),
            (vec![Finding::ok("2/2"), Finding::skipped("unavailable")], CheckOutcome::Skipped),
        ] {
            let line = Check::AgentsReady.line(findings, "mend it");
            assert_eq!((line.outcome, line.hint), (outcome, None));
        }
    }

    #[test]
    fn skipped_lines_do_not_count_in_the_outcome_of_a_report() {
        let line = |findings| Check::AgentsReady.line(findings, "");
        let of = |lines| CheckReport::new("ns", lines).outcome;
        assert_eq!(of(vec![line(vec![Finding::skipped("unavailable")]), line(vec![])]), CheckOutcome::Ok);
        assert_eq!(of(vec![line(vec![Finding::warning("odd")]), line(vec![])]), CheckOutcome::Warning);
        assert_eq!(
            of(vec![line(vec![Finding::warning("odd")]), line(vec![Finding::error("broken")])]),
            CheckOutcome::Error
        );
    }
}
