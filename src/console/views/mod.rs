//! What pages look like: pure functions from what is known to HTML. Texts are escaped by the templates, all of them.

mod data_center;
mod data_centers;
mod form;
mod members;
mod words;

use maud::{DOCTYPE, Markup, html};

pub use self::data_center::data_center;
pub use self::data_centers::data_centers;
pub use self::form::{Form, form, no_preview, preview};
pub use self::members::{bond, host};
use super::pages::Page;
use super::part::{Part, fingerprint};
use super::{Audience, assets};

/// A page that is kept up to date while it is open.
pub fn document(audience: &Audience, page: &Page) -> Markup {
    let content = html! {
        p #offline .notice .warning role="status" hidden {
            "The console does not answer: what you see may be old. It is tried again."
        }
        div data-seen=(fingerprint(&page.parts)) { @for part in &page.parts { (part) } }
    };
    frame(audience, &page.title, &page.above, &content)
}

/// What all pages have around them.
fn frame(audience: &Audience, title: &str, above: &[(String, String)], content: &Markup) -> Markup {
    let scope = audience.namespace.as_ref().map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – Multibond" }
                link rel="stylesheet" href=(assets::STYLE);
                script src=(assets::SCRIPT) defer {}
            }
            body {
                a .skip href="#content" { "Skip to the content" }
                header {
                    a .brand href="/" { "Multibond" }
                    nav aria-label="Where you are" {
                        ol {
                            @for (title, address) in above { li { a href=(address) { (title) } } }
                            li aria-current="page" { (title) }
                        }
                    }
                    p .cluster { (audience.cluster) " · " (scope) }
                }
                main #content tabindex="-1" { (content) }
            }
        }
    }
}

/// What could not be read, above everything else.
pub fn unreadable(unreadable: &[String]) -> Part {
    let content = html! {
        @for what in unreadable { p .notice .warning { strong { "Not shown: " } (what) } }
    };
    Part::Block { id: "unreadable", content }
}

/// The page of something that does not exist.
pub fn gone() -> Page {
    let content = html! {
        h1 { "Not there" }
        p { "There is nothing of this name, or you may not see it. " a href="/" { "All data centers" } }
    };
    Page {
        title: "Not there".to_owned(),
        above: home(),
        found: false,
        parts: vec![Part::Block { id: "gone", content }],
    }
}

fn home() -> Vec<(String, String)> {
    vec![("Data Centers".to_owned(), "/".to_owned())]
}
