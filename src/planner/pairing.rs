//! The paths of a host: portals paired with the devices that carry the networks of bonds.
//!
//! The bonds of a path are a set of bits, and portals in the same place share it, so that nothing is as large as bonds x
//! networks x portals. Each path is counted before it is made, and none is made any more once the plan is too large.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    attachment::Attachment,
    bits::Bits,
    names::HOST_SHOWN,
    plan::HostPlan,
    revision::revision,
    too_large::{MAX_BOND_NAMES, MAX_STEPS, PlanTooLarge},
    view::{Coverage, Place, PortalView, TargetView, View},
};
use crate::api::{
    BondName, DefaultNetwork, HeldPortals, InterfaceName, Iqn, NetworkName, PlannedPath,
    size::{
        AGENT_BASE_ROOM, AGENT_ROOM, CONDITIONS_ROOM, CONTROLLER_ROOM, PathNames, carried_network, held_target,
        name_list, target_entry,
    },
};

/// The part of a plan that hosts with equal attachments share: everything but the networks, whose addresses differ. Also
/// the number of steps that it took.
///
/// The plan is an error if it is too large. The limits of a data center are checked first.
pub(super) fn plan_attachments(view: &View, attachments: &[Attachment]) -> (Result<HostPlan, PlanTooLarge>, usize) {
    if let Some(too_large) = &view.too_large {
        return (Err(too_large.clone()), 1);
    }
    let devices = devices(attachments);
    let mut draft = Draft { view, size: Size::of(attachments), ..Draft::new(view) };
    // Most targets are covered by the same bonds.
    for targets in view.targets.chunk_by(|a, b| Arc::ptr_eq(&a.coverage, &b.coverage)) {
        let mut pairs = Pairs::new(view, &targets[0].coverage, &devices);
        draft.noted.steps += attachments.len();
        if let Some(too_large) = targets.iter().find_map(|target| draft.target(target, &mut pairs).err()) {
            return (Err(too_large), draft.noted.steps);
        }
    }
    let steps = draft.noted.steps + 1;
    (draft.finish(), steps)
}

/// A device of the host with the networks that it carries (indices in the view, in order).
struct Device<'a> {
    interface: &'a InterfaceName,
    networks: Vec<usize>,
}

/// The devices, sorted by name.
fn devices(attachments: &[Attachment]) -> Vec<Device<'_>> {
    let mut devices: BTreeMap<&InterfaceName, Vec<usize>> = BTreeMap::new();
    for attachment in attachments {
        devices.entry(&attachment.entry.interface).or_default().push(attachment.network);
    }
    devices.into_iter().map(|(interface, networks)| Device { interface, networks }).collect()
}

/// A device through which the portals of one place are reached.
struct Row<'a> {
    interface: &'a InterfaceName,
    network: &'a NetworkName,
    bonds: Vec<BondName>,
    /// The bytes of the list of bonds.
    list: usize,
}

/// The rows for the targets of one coverage, by place.
struct Pairs<'a> {
    view: &'a View,
    coverage: &'a Coverage,
    /// The devices that carry a network that the bonds name, with these networks.
    devices: Vec<Device<'a>>,
    rows: HashMap<Place, Vec<Row<'a>>>,
    /// The names of bonds in `rows`.
    names: usize,
}

impl<'a> Pairs<'a> {
    fn new(view: &'a View, coverage: &'a Coverage, devices: &[Device<'a>]) -> Self {
        let named = |device: &Device<'a>| {
            let networks = device.networks.iter().copied().filter(|network| coverage.networks.contains(*network));
            let networks: Vec<usize> = networks.collect();
            (!networks.is_empty()).then_some(Device { interface: device.interface, networks })
        };
        let devices = devices.iter().filter_map(named).collect();
        Pairs { view, coverage, devices, rows: HashMap::new(), names: 0 }
    }

    /// The rows for a place. New ones are noted among the networks that bonds use.
    fn rows(&mut self, place: Place, noted: &mut Noted) -> &[Row<'a>] {
        if !self.rows.contains_key(&place) {
            // Portals in many places must not fill the memory with rows.
            if self.names > MAX_BOND_NAMES || self.rows.len() > MAX_BOND_NAMES {
                self.rows.clear();
                self.names = 0;
            }
            let rows: Vec<Row<'a>> = self.devices.iter().filter_map(|device| self.row(device, place, noted)).collect();
            self.names += rows.iter().map(|row| row.bonds.len()).sum::<usize>();
            self.rows.insert(place, rows);
        }
        self.rows.get(&place).map(Vec::as_slice).unwrap_or_default()
    }

    fn row(&self, device: &Device<'a>, place: Place, noted: &mut Noted) -> Option<Row<'a>> {
        let View { networks, bonds: all, places, .. } = self.view;
        let mut first = None;
        let mut bonds = Bits::new(all.len());
        for &network in &device.networks {
            let mut through = networks[network].all_pairs.clone();
            let is_there = match place {
                Place::Anywhere => true,
                Place::On(place) => places[place].contains(network),
            };
            if is_there {
                through.add(&networks[network].auto);
            }
            through.keep(&self.coverage.bonds);
            noted.steps += 4 * (through.words() + 1);
            if !through.is_empty() {
                first.get_or_insert(network);
                bonds.add(&through);
                noted.uses.entry(network).or_insert_with(|| Bits::new(all.len())).add(&through);
            }
        }
        let network = &networks[first?].name;
        let mut bonds: Vec<BondName> = bonds.iter().map(|bond| all[bond].name.clone()).collect();
        bonds.dedup();
        noted.steps += bonds.len();
        let list = name_list(bonds.iter().map(AsRef::as_ref));
        Some(Row { interface: device.interface, network, bonds, list })
    }
}

/// What is noted while rows are made.
#[derive(Default)]
struct Noted {
    /// The bonds that use each network.
    uses: BTreeMap<usize, Bits>,
    steps: usize,
}

/// The size of a plan, and of the agent's report on it.
#[derive(Clone, Copy)]
struct Size {
    paths: usize,
    bond_names: usize,
    /// Bytes of the controller's fields of the status.
    plan: usize,
    /// Bytes of the agent's fields.
    report: usize,
}

impl Size {
    /// The size of a status without targets.
    fn of(attachments: &[Attachment]) -> Self {
        let entries = attachments.iter().map(|Attachment { entry, .. }| carried_network(&entry.name, &entry.interface));
        Size { paths: 0, bond_names: 0, plan: CONDITIONS_ROOM + entries.sum::<usize>(), report: AGENT_BASE_ROOM }
    }

    fn fits(&self) -> bool {
        self.bond_names <= MAX_BOND_NAMES && self.plan <= CONTROLLER_ROOM && self.report <= AGENT_ROOM
    }

    fn too_large(&self) -> Option<PlanTooLarge> {
        let Size { paths, bond_names, plan, report } = *self;
        if bond_names > MAX_BOND_NAMES {
            Some(PlanTooLarge::BondNames(bond_names))
        } else if self.fits() {
            None
        } else {
            Some(PlanTooLarge::Size { paths, plan, report })
        }
    }
}

/// The lists of a plan, filled target by target.
struct Draft<'a> {
    view: &'a View,
    hold: Vec<Iqn>,
    hold_portals: Vec<HeldPortals>,
    held_by: Vec<BondName>,
    no_network: Vec<Iqn>,
    paths: Vec<PlannedPath>,
    size: Size,
    noted: Noted,
}

impl<'a> Draft<'a> {
    fn new(view: &'a View) -> Self {
        let (hold, hold_portals, held_by) = (Vec::new(), Vec::new(), Vec::new());
        let (no_network, paths, size) = (Vec::new(), Vec::new(), Size::of(&[]));
        Draft { view, hold, hold_portals, held_by, no_network, paths, size, noted: Noted::default() }
    }

    fn target(&mut self, target: &TargetView, pairs: &mut Pairs<'_>) -> Result<(), PlanTooLarge> {
        self.size.plan += target_entry(&target.iqn);
        if target.held {
            self.hold.push(target.iqn.clone());
            self.hold_portals.push(target.hold_portals());
            self.size.plan += held_target(&target.iqn, target.portals.iter().map(|portal| &*portal.name));
            if self.held_by.len() < HOST_SHOWN {
                let new = target.held_by.iter().filter(|bond| !self.held_by.contains(bond));
                let new: Vec<BondName> = new.cloned().collect();
                self.held_by.extend(new);
                self.held_by.truncate(HOST_SHOWN);
            }
        }
        if pairs.devices.is_empty() {
            self.without_network(target);
            return Ok(());
        }
        let before = self.size.paths;
        for portal in &target.portals {
            self.portal(target, portal, portal.place, pairs)?;
        }
        if self.size.paths == before {
            // By pins and subnets no portal is on any of the networks. Paths for all pairs are better than no storage.
            for portal in &target.portals {
                self.portal(target, portal, Place::Anywhere, pairs)?;
            }
        }
        Ok(())
    }

    /// A target whose bonds name none of the host's networks.
    fn without_network(&mut self, target: &TargetView) {
        if target.held {
            // No path: a silent default path would be the mistake.
        } else if self.view.default_network == DefaultNetwork::Use {
            for portal in &target.portals {
                self.path(target, portal, None);
            }
        } else {
            self.no_network.push(target.iqn.clone());
            self.size.plan += target.iqn.len() + 3;
        }
    }

    fn portal(
        &mut self,
        target: &TargetView,
        portal: &PortalView,
        place: Place,
        pairs: &mut Pairs<'_>,
    ) -> Result<(), PlanTooLarge> {
        let rows = pairs.rows(place, &mut self.noted);
        self.noted.steps += 1 + rows.len();
        if self.noted.steps > MAX_STEPS {
            return Err(self.size.too_large().unwrap_or(PlanTooLarge::Steps));
        }
        for row in rows {
            self.path(target, portal, Some(row));
        }
        Ok(())
    }

    /// Counts a path, and adds it if the plan is not too large yet.
    fn path(&mut self, target: &TargetView, portal: &PortalView, row: Option<&Row<'_>>) {
        let names = PathNames {
            target: &target.iqn,
            portal: &portal.name,
            interface: row.map_or("", |row| row.interface),
            network: row.map_or("", |row| row.network),
            storage: &target.storage,
            chap_secret: target.chap_secret.as_deref().unwrap_or_default(),
            bonds: row.map_or(0, |row| row.list),
        };
        self.size.paths += 1;
        self.size.bond_names += row.map_or(0, |row| row.bonds.len());
        self.size.plan += names.planned();
        self.size.report += names.reported();
        if !self.size.fits() {
            return;
        }
        self.paths.push(PlannedPath {
            target: target.iqn.clone(),
            portal: portal.name.clone(),
            tpgt: portal.tpgt,
            interface: row.map(|row| row.interface.clone()),
            network: row.map(|row| row.network.clone()),
            storage: target.storage.clone(),
            bonds: row.map(|row| row.bonds.clone()).unwrap_or_default(),
            chap_secret: target.chap_secret.clone(),
        });
    }

    fn finish(mut self) -> Result<HostPlan, PlanTooLarge> {
        self.size.bond_names += self.noted.uses.values().map(Bits::count).sum::<usize>();
        if let Some(too_large) = self.size.too_large() {
            return Err(too_large);
        }
        let View { session, bonds, networks, .. } = self.view;
        let uses = self.noted.uses.iter();
        let mut uses: Vec<(usize, usize)> =
            uses.flat_map(|(network, bonds)| bonds.iter().map(|bond| (bond, *network))).collect();
        uses.sort_unstable();
        let mut uses: Vec<(BondName, NetworkName)> = uses
            .into_iter()
            .map(|(bond, network)| (bonds[bond].name.clone(), networks[network].name.clone()))
            .collect();
        uses.dedup();
        Ok(HostPlan {
            revision: revision(&self.paths, &self.hold, &self.hold_portals, *session),
            hold: self.hold,
            hold_portals: self.hold_portals,
            held_by: self.held_by,
            no_network: self.no_network,
            paths: self.paths.into(),
            uses: uses.into(),
            session: *session,
            ..HostPlan::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{CarriedNetwork, CarrySource, DataCenter, IscsiBond, Network},
        planner::too_large::{MAX_BONDS, MAX_NETWORKS},
    };

    /// Every portal is in another place, every network contains all portals, and no two bonds name the same networks.
    /// No path would be large, so only the steps end it.
    #[test]
    fn a_plan_that_takes_too_many_steps_is_refused() {
        let portal = |number: usize| json!({"address": format!("10.{}.{}.1", number / 200, number % 200)});
        let target = |number: usize| {
            let portals: Vec<_> = (number * 32..number * 32 + 32).map(portal).collect();
            json!({"iqn": format!("iqn.2003-01.a:{number}"), "portals": portals})
        };
        let storage: Vec<_> = (0..8)
            .map(|at| json!({"name": format!("s{at}"), "targets": (at * 64..at * 64 + 64).map(target).collect::<Vec<_>>()}))
            .collect();
        let data_center: DataCenter = serde_json::from_value(json!({"apiVersion": "multibond.dev/v1alpha1",
            "kind": "DataCenter", "metadata": {"name": "dc"}, "spec": {"storage": storage}}))
        .unwrap();
        let network = |number: usize| -> Network {
            let own = (0..16).map(|at| number * 16 + at).map(|at| format!("10.{}.{}.0/24", at / 200, at % 200));
            let subnets: Vec<String> = own.chain(["10.0.0.0/8".to_owned()]).collect();
            serde_json::from_value(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "Network",
                "metadata": {"name": format!("n{number:04}")}, "spec": {"dataCenter": "dc", "subnets": subnets}}))
            .unwrap()
        };
        let networks: Vec<Network> = (0..MAX_NETWORKS).map(network).collect();
        let bond = |number: usize| -> IscsiBond {
            let networks: Vec<String> = (0..64).map(|at| format!("n{:04}", (number + at) % MAX_NETWORKS)).collect();
            serde_json::from_value(json!({"apiVersion": "multibond.dev/v1alpha1", "kind": "IscsiBond",
                "metadata": {"name": format!("b{number}")}, "spec": {"dataCenter": "dc", "networks": networks}}))
            .unwrap()
        };
        let bonds: Vec<IscsiBond> = (0..MAX_BONDS).map(bond).collect();
        let view =
            View::compile(&data_center, &networks.iter().collect::<Vec<_>>(), &bonds.iter().collect::<Vec<_>>(), false);
        let attachments: Vec<Attachment> = (0..MAX_NETWORKS)
            .flat_map(|network| (0..4).map(move |device| (network, device)))
            .map(|(network, device)| Attachment {
                network,
                entry: CarriedNetwork {
                    name: format!("n{network:04}").into(),
                    interface: format!("ens{device}").into(),
                    source: CarrySource::Subnet,
                    address: None,
                },
            })
            .collect();
        let (plan, steps) = plan_attachments(&view, &attachments);
        assert!(
            matches!(plan, Err(PlanTooLarge::BondNames(_) | PlanTooLarge::Size { .. } | PlanTooLarge::Steps)),
            "{plan:?}"
        );
        assert!(steps < 2 * MAX_STEPS, "{steps}");
    }
}
