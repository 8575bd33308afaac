//! The document around every page, and the page for an object that does not exist.

use maud::{DOCTYPE, Markup, html};

use crate::console::assets;
use crate::console::fragment::{Fragment, fingerprint};
use crate::console::location::Scope;
use crate::console::page::Page;

/// The document of a page that is kept up to date while it is open.
pub fn document(scope: &Scope, page: &Page) -> Markup {
    let content = html! {
        p #offline .notice .warning role="status" hidden {
            "The console does not answer, so this page may be out of date. It keeps trying to reconnect."
        }
        div data-seen=(fingerprint(&page.fragments)) { @for fragment in &page.fragments { (fragment) } }
    };
    frame(scope, &page.title, &page.above, &content)
}

/// The document around the content of every page.
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
                    nav aria-label="Breadcrumb" {
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

/// A notice for each thing that could not be read.
pub fn unreadable(unreadable: &[String]) -> Fragment {
    let content = html! {
        @for what in unreadable { p .notice .warning { strong { "Not shown: " } (what) } }
    };
    Fragment::Block { id: "unreadable", content }
}

/// The page for an object that does not exist.
pub fn gone() -> Page {
    let content = html! {
        h1 { "Not found" }
        p { "There is no object of this name, or you may not read it. " a href="/" { "All data centers" } }
    };
    Page {
        title: "Not found".to_owned(),
        above: home(),
        found: false,
        fragments: vec![Fragment::Block { id: "gone", content }],
    }
}

pub fn home() -> Vec<(String, String)> {
    vec![("Data Centers".to_owned(), "/".to_owned())]
}
