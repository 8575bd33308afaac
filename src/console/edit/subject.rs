//! The subject of a form. A module for each kind of subject defines the inputs of its form, their initial values and
//! the object that the form builds. Everything else is the same for all kinds.

use super::change::{Change, Object, Verb};
use super::errors::Errors;
use super::form::{GENERATION, Input};
use super::{bond, data_center, host, network, storage};
use crate::api::Pairing;
use crate::console::fields::Fields;
use crate::console::location::{DataCenterRef, Tab};
use crate::console::model::Model;

/// The action of a form on its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormAction {
    /// Creates it.
    New,
    /// Changes it.
    Edit,
    /// Deletes it.
    Delete,
}

/// The subject of a form. For a new object the name is empty, and the form asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A data center, without its storage; `None` for a new one.
    DataCenter(Option<DataCenterRef>),
    /// A target of a storage.
    Target {
        /// The data center.
        dc: DataCenterRef,
        /// The name of the storage.
        storage: String,
        /// The iSCSI name of the target.
        iqn: String,
    },
    /// A network.
    Network(DataCenterRef, String),
    /// A bond.
    Bond(DataCenterRef, String),
    /// A host.
    Host(DataCenterRef, String),
}

impl Subject {
    /// The subject of an address: `what` is a segment of its path.
    pub fn parse(dc: DataCenterRef, what: &str, query: &Fields) -> Option<Subject> {
        let name = || query.get("name").to_owned();
        match what {
            "data-center" => Some(Subject::DataCenter(Some(dc))),
            "storage" => Some(Subject::Target {
                dc,
                storage: query.get("storage").to_owned(),
                iqn: query.get("target").to_owned(),
            }),
            "network" => Some(Subject::Network(dc, name())),
            "bond" => Some(Subject::Bond(dc, name())),
            "host" => Some(Subject::Host(dc, name())),
            _ => None,
        }
    }

    /// Its data center; `None` for a new one.
    pub fn dc(&self) -> Option<&DataCenterRef> {
        match self {
            Subject::DataCenter(dc) => dc.as_ref(),
            Subject::Target { dc, .. } | Subject::Network(dc, _) | Subject::Bond(dc, _) | Subject::Host(dc, _) => {
                Some(dc)
            }
        }
    }

    /// Its kind as text.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::DataCenter(_) => "Data Center",
            Subject::Target { .. } => "iSCSI Storage",
            Subject::Network(..) => "Network",
            Subject::Bond(..) => "iSCSI Bond",
            Subject::Host(..) => "Host",
        }
    }

    /// Its name; empty for a new one.
    pub fn name(&self) -> &str {
        match self {
            Subject::DataCenter(dc) => dc.as_ref().map_or("", |dc| &dc.name),
            Subject::Target { iqn, .. } => iqn,
            Subject::Network(_, name) | Subject::Bond(_, name) | Subject::Host(_, name) => name,
        }
    }

    /// The tab that lists it.
    pub fn tab(&self) -> Option<Tab> {
        match self {
            Subject::DataCenter(_) => None,
            Subject::Target { .. } => Some(Tab::Storage),
            Subject::Network(..) => Some(Tab::Networks),
            Subject::Bond(..) => Some(Tab::Bonds),
            Subject::Host(..) => Some(Tab::Hosts),
        }
    }

    /// The address that the browser goes to after the change.
    pub fn afterwards(&self, fields: &Fields, action: FormAction) -> String {
        match (self.dc(), self.tab()) {
            (Some(dc), Some(tab)) => dc.tab(tab),
            (_, None) if action == FormAction::New => {
                let dc = DataCenterRef {
                    namespace: fields.get("namespace").to_owned(),
                    name: fields.get("name").to_owned(),
                };
                dc.tab(Tab::Storage)
            }
            (Some(dc), None) if action == FormAction::Edit => dc.tab(Tab::Storage),
            _ => "/".to_owned(),
        }
    }

    /// The inputs of the form.
    pub fn inputs(&self, model: &Model) -> Vec<Input> {
        match self {
            Subject::DataCenter(dc) => data_center::inputs(dc.is_some()),
            Subject::Target { dc, iqn, .. } => storage::inputs(model, dc, iqn),
            Subject::Network(_, name) => network::inputs(name),
            Subject::Bond(dc, name) => bond::inputs(model, dc, name),
            Subject::Host(..) => host::inputs(),
        }
    }

    /// The initial values of the form; `None` when the subject does not exist.
    pub fn values(&self, model: &Model) -> Option<Fields> {
        match self {
            Subject::DataCenter(None) => Some(Fields::default()),
            Subject::DataCenter(Some(dc)) => Some(data_center::values(model.data_center(dc)?)),
            Subject::Target { dc, storage, iqn } => storage::values(model.data_center(dc)?, storage, iqn),
            Subject::Network(dc, name) if name.is_empty() => model.view(dc).map(|_| Fields::default()),
            Subject::Network(dc, name) => Some(network::values(model.network(dc, name)?)),
            Subject::Bond(dc, name) if name.is_empty() => {
                model.view(dc).map(|_| Fields::default().with("pairing", Pairing::default().as_str()))
            }
            Subject::Bond(dc, name) => Some(bond::values(model.bond(dc, name)?)),
            Subject::Host(dc, name) => Some(host::values(model.host(dc, name)?)),
        }
    }

    /// The change that a form describes.
    ///
    /// # Errors
    /// If a value cannot be parsed, or the object is gone.
    pub fn change(&self, action: FormAction, fields: &Fields, model: &Model) -> Result<Change, Errors> {
        if action == FormAction::Delete {
            return self.deletion(model);
        }
        let verb = match fields.get(GENERATION).parse() {
            Ok(generation) => Verb::Replace { generation },
            Err(_) => Verb::Create,
        };
        let object = match self {
            Subject::DataCenter(dc) => Object::DataCenter(Box::new(data_center::build(
                dc.as_ref().and_then(|it| model.data_center(it)),
                fields,
            ))),
            Subject::Target { dc, storage, iqn } => {
                let data_center = model.data_center(dc).ok_or_else(gone)?;
                Object::DataCenter(Box::new(storage::build(data_center, storage, iqn, fields)?))
            }
            Subject::Network(dc, name) => {
                let current = model.network(dc, name);
                Object::Network(Box::new(network::build(current, dc, fields)?))
            }
            Subject::Bond(dc, name) => Object::Bond(Box::new(bond::build(model.bond(dc, name), dc, fields))),
            Subject::Host(dc, name) => {
                Object::Host(Box::new(host::build(model.host(dc, name).ok_or_else(gone)?, fields)))
            }
        };
        Ok(Change { verb, object })
    }

    fn deletion(&self, model: &Model) -> Result<Change, Errors> {
        let (verb, object) = match self {
            Subject::DataCenter(dc) => {
                let data_center = dc.as_ref().and_then(|dc| model.data_center(dc)).ok_or_else(gone)?;
                (Verb::Delete, Object::DataCenter(Box::new(data_center.clone())))
            }
            // A target is part of its data center: its deletion is a change of that object.
            Subject::Target { dc, storage, iqn } => {
                let data_center = model.data_center(dc).ok_or_else(gone)?;
                let generation = data_center.metadata.generation.unwrap_or_default();
                let rest = storage::without(data_center, storage, iqn);
                (Verb::Replace { generation }, Object::DataCenter(Box::new(rest)))
            }
            Subject::Network(dc, name) => {
                let network = model.network(dc, name).ok_or_else(gone)?;
                (Verb::Delete, Object::Network(Box::new(network.clone())))
            }
            Subject::Bond(dc, name) => {
                let bond = model.bond(dc, name).ok_or_else(gone)?;
                (Verb::Delete, Object::Bond(Box::new(bond.clone())))
            }
            Subject::Host(dc, name) => {
                (Verb::Delete, Object::Host(Box::new(model.host(dc, name).ok_or_else(gone)?.clone())))
            }
        };
        Ok(Change { verb, object })
    }

    /// The consequences of a deletion, apart from the paths that the preview shows.
    pub fn consequences(&self, model: &Model) -> Vec<String> {
        match self {
            Subject::DataCenter(Some(dc)) => data_center::consequences(model, dc),
            Subject::Network(dc, name) => network::consequences(model, dc, name),
            Subject::Bond(..) => vec![
                "Its hosts use the networks of other bonds instead, or their default network. They connect the new paths \
                 first, and no path in use is logged out."
                    .to_owned(),
            ],
            Subject::Target { .. } => {
                vec!["Sessions whose disks nothing uses are logged out; the others stay until their disks are free.".to_owned()]
            }
            Subject::Host(..) => vec!["Its agent first logs out every session that is safe to log out; then the Host is deleted.".to_owned()],
            Subject::DataCenter(None) => Vec::new(),
        }
    }
}

fn gone() -> Errors {
    Errors::general("It has been deleted in the meantime.")
}
