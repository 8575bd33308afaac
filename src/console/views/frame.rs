//! The frame of every page, and the pages that belong to no object.

use maud::{DOCTYPE, Markup, html};

use crate::console::assets;
use crate::console::fragment::{Fragment, fingerprint};
use crate::console::location::Scope;
use crate::console::page::Page;

/// A page that is kept up to date while it is open.
pub fn document(scope: &Scope, page: &Page) -> Markup {
    let content = html! {
        p #offline .notice .warning role="status" hidden {
            "The console does not answer: what you see may be old. It is tried again."
        }
        div data-seen=(fingerprint(&page.parts)) { @for part in &page.parts { (part) } }
    };
    frame(scope, &page.title, &page.above, &content)
}

/// What all pages have around them.
pub fn frame(scope: &Scope, title: &str, above: &[(String, String)], content: &Markup) -> Markup {
    let namespaces = scope.namespace.as_ref().map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
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
                    p .cluster { (scope.cluster) " · " (namespaces) }
                }
                main #content tabindex="-1" { (content) }
            }
        }
    }
}

/// What could not be read, above everything else.
pub fn unreadable(unreadable: &[String]) -> Fragment {
    let content = html! {
        @for what in unreadable { p .notice .warning { strong { "Not shown: " } (what) } }
    };
    Fragment::Block { id: "unreadable", content }
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
        parts: vec![Fragment::Block { id: "gone", content }],
    }
}

pub fn home() -> Vec<(String, String)> {
    vec![("Data Centers".to_owned(), "/".to_owned())]
}
