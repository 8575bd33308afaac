//! Pages of forms, with a preview of the changes on the hosts.

use maud::{Markup, html};

use super::frame::{frame, home};
use crate::api::{PlannedPath, first_few};
use crate::console::edit::{Choice, Errors, FormAction, GENERATION, Input, InputKind, Subject};
use crate::console::fields::{FORM_KEY, Fields};
use crate::console::location::{Scope, Tab};
use crate::console::preview::{HostChange, Preview};

/// The largest number of hosts that are listed with their changes.
const SHOWN: usize = 50;

/// A form with its values.
pub struct Form<'a> {
    /// The action of the form.
    pub action: FormAction,
    /// The subject of the form.
    pub subject: &'a Subject,
    /// The inputs.
    pub inputs: &'a [Input],
    /// The values of the inputs.
    pub values: &'a Fields,
    /// Errors of the last submission.
    pub errors: &'a Errors,
    /// The consequences of the deletion, one sentence each.
    pub consequences: Vec<String>,
    /// The key of the console's forms.
    pub key: &'a str,
}

/// The page of a form.
pub fn form(scope: &Scope, form: &Form<'_>, outlook: &Markup) -> Markup {
    let Form { action, subject, inputs, values, errors, consequences, key } = form;
    let title = match action {
        FormAction::New => format!("New {}", subject.kind()),
        FormAction::Edit => format!("Edit {} {}", subject.kind(), subject.name()),
        FormAction::Delete => format!("Remove {} {}", subject.kind(), subject.name()),
    };
    let mut above = home();
    if let Some(dc) = subject.dc() {
        above.push((dc.name.clone(), dc.tab(Tab::Storage)));
        above.extend(subject.tab().map(|tab| (tab.title().to_owned(), dc.tab(tab))));
    }
    let back = above.last().map_or("/", |(_, address)| address.as_str());
    let content = html! {
        h1 { (title) }
        div .sheet {
            form method="post" data-preview[*action != FormAction::Delete] autocomplete="off" {
                input type="hidden" name=(FORM_KEY) value=(key);
                @if !values.get(GENERATION).is_empty() { input type="hidden" name=(GENERATION) value=(values.get(GENERATION)); }
                @if !errors.is_empty() {
                    div .errors role="alert" {
                        p { strong { "Nothing was changed." } }
                        @for message in errors.elsewhere(inputs) { p { (message) } }
                    }
                }
                @if *action == FormAction::Delete {
                    ul .consequences { @for consequence in consequences { li { (consequence) } } }
                } @else {
                    @for (number, input) in inputs.iter().enumerate() {
                        (field(input, values, &errors.beside(input, inputs).collect::<Vec<_>>(), number))
                    }
                }
                div .toolbar {
                    @if *action == FormAction::Delete {
                        button .primary .danger { "Remove" }
                    } @else {
                        button .primary { @if *action == FormAction::New { "Create" } @else { "Save" } }
                    }
                    a .button href=(back) { "Cancel" }
                }
            }
            aside aria-label="What the hosts will do" { (outlook) }
        }
    };
    frame(scope, &title, &above, &content)
}

fn field(input: &Input, values: &Fields, wrong: &[&str], number: usize) -> Markup {
    let Input { name, label, hint, state, field: _, kind } = input;
    let (hint_id, wrong_id) = (format!("{name}-hint"), format!("{name}-wrong"));
    let described = format!(
        "{}{}",
        if hint.is_empty() { "" } else { &hint_id },
        if wrong.is_empty() { String::new() } else { format!(" {wrong_id}") }
    );
    let described = Some(described.trim()).filter(|ids| !ids.is_empty());
    let invalid = (!wrong.is_empty()).then_some("true");
    let notes = html! {
        @if !hint.is_empty() { p .hint id=(hint_id) { (hint) } }
        @if !state.is_empty() { ul .plain .hint { @for line in state { li { (line) } } } }
        @if !wrong.is_empty() { div .wrong id=(wrong_id) { @for message in wrong { p { (message) } } } }
    };
    let value = values.get(name);
    match kind {
        InputKind::Line => html! {
            div .field {
                label for=(name) { (label) }
                input id=(name) name=(name) value=(value) autofocus[number == 0] spellcheck="false" aria-describedby=[described] aria-invalid=[invalid];
                (notes)
            }
        },
        InputKind::Fixed => html! {
            div .field {
                label for=(name) { (label) }
                input id=(name) name=(name) value=(value) readonly aria-invalid=[invalid];
                @if !wrong.is_empty() { div .wrong { @for message in wrong { p { (message) } } } }
            }
        },
        InputKind::Lines => html! {
            div .field {
                label for=(name) { (label) }
                textarea id=(name) name=(name) rows="4" spellcheck="false" aria-describedby=[described] aria-invalid=[invalid] { (value) }
                (notes)
            }
        },
        InputKind::Switch => html! {
            div .field {
                label .choice { input type="checkbox" name=(name) value="yes" checked[values.has(name, "yes")] aria-describedby=[described]; " " strong { (label) } }
                (notes)
            }
        },
        InputKind::Any(choices) => group(label, &notes, described, choices, |choice| {
            html! {
                input type="checkbox" name=(name) value=(choice.value) checked[values.has(name, &choice.value)];
            }
        }),
        InputKind::One(choices) => {
            let none = value.is_empty();
            group(label, &notes, described, choices, |choice| {
                html! {
                    input type="radio" name=(name) value=(choice.value)
                        checked[values.has(name, &choice.value) || (none && choices.first() == Some(choice))];
                }
            })
        }
    }
}

fn group(
    label: &str,
    notes: &Markup,
    described: Option<&str>,
    choices: &[Choice],
    input: impl Fn(&Choice) -> Markup,
) -> Markup {
    html! {
        fieldset .field aria-describedby=[described] {
            legend { (label) }
            @for choice in choices {
                label .choice {
                    (input(choice)) " " strong { (choice.label) }
                    @if !choice.hint.is_empty() { " " span .hint { (choice.hint) } }
                }
            }
            @if choices.is_empty() { p .hint { "There are none yet." } }
            (notes)
        }
    }
}

/// The preview: the changes on the hosts, and the change as a manifest.
pub fn preview(preview: &Preview, manifest: Option<&str>) -> Markup {
    let Preview { total, hosts, on_default, problems } = preview;
    let sum = |of: fn(&HostChange) -> usize| hosts.iter().map(of).sum::<usize>();
    let (added, retired) = (sum(|host| host.added.len()), sum(|host| host.retired.len()));
    html! {
        div #preview aria-live="polite" {
            h2 { "What the hosts will do" }
            @if hosts.is_empty() {
                p { "No path changes on any of the " (count(*total, "host")) "." }
            } @else {
                ul .sums {
                    li .good { strong { (added) } " " (word(added, "path")) " added" }
                    li .warning { strong { (retired) } " " (word(retired, "path")) @if retired == 1 { " retires" } @else { " retire" } }
                    li { "on " strong { (hosts.len()) } " of " (count(*total, "host")) }
                }
            }
            @if !on_default.is_empty() {
                p { (count(on_default.len(), "host")) " on the default network: " (first_few(on_default, 8, Clone::clone)) }
            }
            @for problem in problems {
                p .notice .bad[!problem.is_warning()] .warning[problem.is_warning()] { strong { (problem.kind.as_str()) " " (problem.name) ", " (problem.reason) } ": " (problem.message) }
            }
            @if !hosts.is_empty() { (changes(hosts)) }
            @if let Some(manifest) = manifest {
                details #as-yaml {
                    summary { "As YAML" }
                    pre #manifest tabindex="0" { (manifest) }
                    button type="button" data-copy="manifest" { "Copy" }
                }
            }
        }
    }
}

/// Shown in place of a preview while the form is not valid.
pub fn no_preview() -> Markup {
    html! {
        div #preview aria-live="polite" {
            h2 { "What the hosts will do" }
            p { "The form is not complete or not valid yet." }
        }
    }
}

fn changes(hosts: &[HostChange]) -> Markup {
    html! {
        ul .hosts {
            @for HostChange { name, added, retired, kept } in hosts.iter().take(SHOWN) {
                li {
                    strong { (name) } @if *kept > 0 { span .hint { " " (count(*kept, "path")) " stay" } }
                    ul .plain {
                        @for path in added { li .added { span aria-hidden="true" { "+ " } span .visually-hidden { "added: " } (line(path)) } }
                        @for path in retired { li .retired { span aria-hidden="true" { "− " } span .visually-hidden { "retires: " } (line(path)) } }
                    }
                }
            }
        }
        @if hosts.len() > SHOWN { p .hint { "and " (count(hosts.len() - SHOWN, "more host")) } }
    }
}

fn line(path: &PlannedPath) -> Markup {
    html! {
        span .code { (path.portal) }
        @match (&path.network, &path.interface) {
            (Some(network), Some(interface)) => { " through " (network) " (" (interface) ")" },
            (None, Some(interface)) => { " through " (interface) },
            (_, None) => " through the default network",
        }
    }
}

fn word(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {}", word(number, noun))
}
