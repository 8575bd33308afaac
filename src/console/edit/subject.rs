//! What a form is about, and what it leads to. Each kind of subject says what its form asks for, what it holds at
//! first, and which object comes of it; everything else is the same for all.

use super::change::{Change, Object, Verb};
use super::errors::Errors;
use super::form::{GENERATION, Input};
use super::{bond, data_center, host, network, storage};
use crate::console::fields::Fields;
use crate::console::location::{DataCenterRef, Tab};
use crate::console::model::Model;

/// What happens to the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormAction {
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
    DataCenter(Option<DataCenterRef>),
    /// A target of a storage of a data center.
    Target {
        /// The data center.
        dc: DataCenterRef,
        /// The storage's name.
        storage: String,
        /// The target's iSCSI name.
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
    /// The subject that an address names.
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

    /// Its data center.
    pub fn dc(&self) -> Option<&DataCenterRef> {
        match self {
            Subject::DataCenter(dc) => dc.as_ref(),
            Subject::Target { dc, .. } | Subject::Network(dc, _) | Subject::Bond(dc, _) | Subject::Host(dc, _) => {
                Some(dc)
            }
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
            Subject::DataCenter(dc) => dc.as_ref().map_or("", |dc| &dc.name),
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
    pub fn afterwards(&self, fields: &Fields, action: FormAction) -> String {
        match (self.dc(), self.tab()) {
            (Some(dc), Some(tab)) => dc.path(tab.path()),
            (_, None) if action == FormAction::New => {
                let dc = DataCenterRef {
                    namespace: fields.get("namespace").to_owned(),
                    name: fields.get("name").to_owned(),
                };
                dc.path(Tab::Storage.path())
            }
            (Some(dc), None) if action == FormAction::Edit => dc.path(Tab::Storage.path()),
            _ => "/".to_owned(),
        }
    }

    /// What the form asks for.
    pub fn inputs(&self, model: &Model) -> Vec<Input> {
        match self {
            Subject::DataCenter(dc) => data_center::inputs(dc.is_some()),
            Subject::Target { dc, iqn, .. } => storage::inputs(model, dc, iqn),
            Subject::Network(_, name) => network::inputs(name),
            Subject::Bond(dc, name) => bond::inputs(model, dc, name),
            Subject::Host(..) => host::inputs(),
        }
    }

    /// What the form holds at first; nothing when there is no such subject.
    pub fn values(&self, model: &Model) -> Option<Fields> {
        match self {
            Subject::DataCenter(None) => Some(Fields::default()),
            Subject::DataCenter(Some(dc)) => Some(data_center::values(model.data_center(dc)?)),
            Subject::Target { dc, storage, iqn } => storage::values(model.data_center(dc)?, storage, iqn),
            Subject::Network(dc, name) if name.is_empty() => model.view(dc).map(|_| Fields::default()),
            Subject::Network(dc, name) => Some(network::values(model.network(dc, name)?)),
            Subject::Bond(dc, name) if name.is_empty() => {
                model.view(dc).map(|_| Fields::default().with("pairing", "Auto"))
            }
            Subject::Bond(dc, name) => Some(bond::values(model.bond(dc, name)?)),
            Subject::Host(dc, name) => Some(host::values(model.host(dc, name)?)),
        }
    }

    /// The change that a form asks for.
    ///
    /// # Errors
    /// What cannot be understood.
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
            // A part of its data center: what is left is written.
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

    /// What follows from a deletion, beside what hosts do.
    pub fn consequences(&self, model: &Model) -> Vec<String> {
        match self {
            Subject::DataCenter(Some(dc)) => data_center::consequences(model, dc),
            Subject::Network(dc, name) => network::consequences(model, dc, name),
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
