//! Forms that create, change and delete. Each subject says what its form asks for, what it holds at first, and which
//! object comes of it; everything else is the same for all.

mod bond;
mod change;
mod data_center;
mod errors;
mod form;
mod host;
mod network;
mod storage;

use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt as _};

pub use self::change::{Change, Object, Verb};
pub use self::errors::Errors;
pub use self::form::{Choice, Input, Kind};
pub use self::storage::line as portal_line;
use super::fields::Fields;
use super::pages::{Model, Place, Tab};

/// What happens to the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    New,
    /// It is changed.
    Edit,
    /// It is taken away.
    Delete,
}

/// What a form is about. A name that is empty is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A data center as a whole.
    DataCenter(Option<Place>),
    /// A target of a storage of a data center.
    Target {
        /// The data center.
        place: Place,
        /// The storage's name.
        storage: String,
        /// The target's iSCSI name.
        iqn: String,
    },
    /// A network.
    Network(Place, String),
    /// A bond.
    Bond(Place, String),
    /// A host.
    Host(Place, String),
}

/// The field with the generation that the person has seen.
pub const GENERATION: &str = "generation";

impl Subject {
    /// The subject that an address names.
    pub fn parse(place: Place, what: &str, query: &Fields) -> Option<Subject> {
        let name = || query.get("name").to_owned();
        match what {
            "data-center" => Some(Subject::DataCenter(Some(place))),
            "storage" => Some(Subject::Target {
                place,
                storage: query.get("storage").to_owned(),
                iqn: query.get("target").to_owned(),
            }),
            "network" => Some(Subject::Network(place, name())),
            "bond" => Some(Subject::Bond(place, name())),
            "host" => Some(Subject::Host(place, name())),
            _ => None,
        }
    }

    /// Its data center.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Subject::DataCenter(place) => place.as_ref(),
            Subject::Target { place, .. }
            | Subject::Network(place, _)
            | Subject::Bond(place, _)
            | Subject::Host(place, _) => Some(place),
        }
    }

    /// What it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::DataCenter(_) => "Data Center",
            Subject::Target { .. } => "iSCSI Storage",
            Subject::Network(..) => "Network",
            Subject::Bond(..) => "iSCSI Bond",
            Subject::Host(..) => "Host",
        }
    }

    /// Its name; empty for one that is new.
    pub fn name(&self) -> &str {
        match self {
            Subject::DataCenter(place) => place.as_ref().map_or("", |place| &place.name),
            Subject::Target { iqn, .. } => iqn,
            Subject::Network(_, name) | Subject::Bond(_, name) | Subject::Host(_, name) => name,
        }
    }

    /// Where it is listed.
    pub fn tab(&self) -> Option<Tab> {
        match self {
            Subject::DataCenter(_) => None,
            Subject::Target { .. } => Some(Tab::Storage),
            Subject::Network(..) => Some(Tab::Networks),
            Subject::Bond(..) => Some(Tab::Bonds),
            Subject::Host(..) => Some(Tab::Hosts),
        }
    }

    /// The address to go to when it is done.
    pub fn afterwards(&self, fields: &Fields, action: Action) -> String {
        match (self.place(), self.tab()) {
            (Some(place), Some(tab)) => place.path(tab.path()),
            (_, None) if action == Action::New => {
                let place =
                    Place { namespace: fields.get("namespace").to_owned(), name: fields.get("name").to_owned() };
                place.path(Tab::Storage.path())
            }
            (Some(place), None) if action == Action::Edit => place.path(Tab::Storage.path()),
            _ => "/".to_owned(),
        }
    }

    /// What the form asks for.
    pub fn inputs(&self, model: &Model) -> Vec<Input> {
        match self {
            Subject::DataCenter(place) => data_center::inputs(place.is_some()),
            Subject::Target { place, iqn, .. } => storage::inputs(model, place, iqn),
            Subject::Network(_, name) => network::inputs(name),
            Subject::Bond(place, name) => bond::inputs(model, place, name),
            Subject::Host(..) => host::inputs(),
        }
    }

    /// What the form holds at first; nothing when there is no such subject.
    pub fn values(&self, model: &Model) -> Option<Fields> {
        match self {
            Subject::DataCenter(None) => Some(Fields::default()),
            Subject::DataCenter(Some(place)) => Some(data_center::values(model.data_center(place)?)),
            Subject::Target { place, storage, iqn } => storage::values(model.data_center(place)?, storage, iqn),
            Subject::Network(place, name) if name.is_empty() => model.view(place).map(|_| Fields::default()),
            Subject::Network(place, name) => {
                Some(network::values(model.networks(place).into_iter().find(|it| it.name_any() == *name)?))
            }
            Subject::Bond(place, name) if name.is_empty() => {
                model.view(place).map(|_| Fields::default().with("pairing", "Auto"))
            }
            Subject::Bond(place, name) => Some(bond::values(model.bond(place, name)?)),
            Subject::Host(place, name) => Some(host::values(model.host(place, name)?)),
        }
    }

    /// The change that a form asks for.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn change(&self, action: Action, fields: &Fields, model: &Model) -> Result<Change, Errors> {
        if action == Action::Delete {
            return self.deletion(model);
        }
        let verb = match fields.get(GENERATION).parse() {
            Ok(generation) => Verb::Replace { generation },
            Err(_) => Verb::Create,
        };
        let object = match self {
            Subject::DataCenter(place) => Object::DataCenter(Box::new(data_center::build(
                place.as_ref().and_then(|it| model.data_center(it)),
                fields,
            ))),
            Subject::Target { place, storage, iqn } => {
                let data_center = model.data_center(place).ok_or_else(gone)?;
                Object::DataCenter(Box::new(storage::build(data_center, storage, iqn, fields)?))
            }
            Subject::Network(place, name) => {
                let current = model.networks(place).into_iter().find(|it| it.name_any() == *name);
                Object::Network(Box::new(network::build(current, place, fields)?))
            }
            Subject::Bond(place, name) => Object::Bond(Box::new(bond::build(model.bond(place, name), place, fields))),
            Subject::Host(place, name) => {
                Object::Host(Box::new(host::build(model.host(place, name).ok_or_else(gone)?, fields)))
            }
        };
        Ok(Change { verb, object })
    }

    fn deletion(&self, model: &Model) -> Result<Change, Errors> {
        let (verb, object) = match self {
            Subject::DataCenter(place) => {
                let data_center = place.as_ref().and_then(|place| model.data_center(place)).ok_or_else(gone)?;
                (Verb::Delete, Object::DataCenter(Box::new(data_center.clone())))
            }
            // A part of its data center: what is left is written.
            Subject::Target { place, storage, iqn } => {
                let data_center = model.data_center(place).ok_or_else(gone)?;
                let generation = data_center.metadata.generation.unwrap_or_default();
                let rest = storage::without(data_center, storage, iqn);
                (Verb::Replace { generation }, Object::DataCenter(Box::new(rest)))
            }
            Subject::Network(place, name) => {
                let network = model.networks(place).into_iter().find(|it| it.name_any() == *name).ok_or_else(gone)?;
                (Verb::Delete, Object::Network(Box::new(network.clone())))
            }
            Subject::Bond(place, name) => {
                let bond = model.bond(place, name).ok_or_else(gone)?;
                (Verb::Delete, Object::Bond(Box::new(bond.clone())))
            }
            Subject::Host(place, name) => {
                (Verb::Delete, Object::Host(Box::new(model.host(place, name).ok_or_else(gone)?.clone())))
            }
        };
        Ok(Change { verb, object })
    }

    /// What follows from a deletion, beside what hosts do.
    pub fn consequences(&self, model: &Model) -> Vec<String> {
        match self {
            Subject::DataCenter(Some(place)) => data_center::consequences(model, place),
            Subject::Network(place, name) => network::consequences(model, place, name),
            Subject::Bond(..) => vec![
                "Its hosts go over to the networks of other bonds, or to their default network: new paths first, and none \
                 in use is taken away."
                    .to_owned(),
            ],
            Subject::Target { .. } => {
                vec!["Its sessions are logged out where nothing uses their disks; the others stay until nothing does.".to_owned()]
            }
            Subject::Host(..) => vec!["Its agent disconnects what is safe to disconnect, and then it is gone.".to_owned()],
            Subject::DataCenter(None) => Vec::new(),
        }
    }
}

fn gone() -> Errors {
    Errors::general("It is gone in the meantime.")
}

/// The fields of an object that exists begin with its name and its generation.
fn fields_of<K: Resource>(object: &K) -> Fields {
    let generation = object.meta().generation.unwrap_or_default();
    Fields::default().with("name", object.name_any()).with(GENERATION, generation.to_string())
}

/// The metadata of an object that is new.
fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.to_owned()), name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// A description; none when it is empty.
fn description(fields: &Fields) -> Option<String> {
    Some(fields.get("description").to_owned()).filter(|text| !text.is_empty())
}

/// The input for a description.
fn description_input() -> Input {
    Input::line("description", "Description").of("spec.description")
}

/// The input for a name.
fn name_input(fixed: bool) -> Input {
    Input::line("name", "Name")
        .hint("Lower-case letters, digits and “-”; it cannot be changed later.")
        .of("metadata.name")
        .fixed(fixed)
}
