//! Another tool on the host that uses targets of its own, at random, and that notices when somebody else changes what it
//! has made.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use multibond_testbed::{Chance, Guest, eventually};

use crate::{
    by_hand::{ALPHA, BETA, PATIENCE},
    logout::{EUI, NAA},
};

/// The targets that it logs in to.
const OWN: [&str; 3] = [BETA, EUI, NAA];

/// Exit codes of iscsiadm.
const SESSION_EXISTS: i32 = 15;
const NOTHING_FOUND: i32 = 21;

/// A session of it: the address of the portal, and the target.
type Pair = (String, String);

/// What a tool does on a host without asking anybody. Drivers do not name an interface, and neither does it.
#[derive(Debug)]
enum Step {
    Discover(String),
    MakeRecord(Pair),
    LogIn(Pair),
    LogOut(Pair),
    /// The records of one of its targets.
    Delete(String),
    /// Discovery has made records also for the target that Multibond keeps.
    DeleteOfPlannedTarget,
}

impl Step {
    fn draw(chance: &mut Chance, has: &Belongings) -> Self {
        let portal = format!("10.0.10{}.{}", 1 + chance.below(2), 1 + chance.below(8));
        let target = chance.one_of(&OWN).to_owned();
        let (known, sessions) = (has.known(), has.sessions.values().collect::<Vec<_>>());
        match chance.below(14) {
            0..2 => Self::Discover(portal),
            2 => Self::Delete(target),
            3 => Self::DeleteOfPlannedTarget,
            4..8 if !sessions.is_empty() => Self::LogOut(chance.one_of(&sessions).clone()),
            4..13 if !known.is_empty() => Self::LogIn(chance.one_of(&known.iter().collect::<Vec<_>>()).clone()),
            _ => Self::MakeRecord((portal, target)),
        }
    }

    /// Whether it may change the records of a target.
    fn concerns(&self, record: &str) -> bool {
        match self {
            Self::Discover(_) => true,
            Self::MakeRecord((_, target))
            | Self::LogIn((_, target))
            | Self::LogOut((_, target))
            | Self::Delete(target) => record.contains(target),
            Self::DeleteOfPlannedTarget => record.contains(ALPHA),
        }
    }

    /// The session that it may make or end.
    fn pair(&self) -> Option<&Pair> {
        match self {
            Self::LogIn(pair) | Self::LogOut(pair) => Some(pair),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Discover(_) => "discovery",
            Self::MakeRecord(_) => "new record",
            Self::LogIn(_) => "login",
            Self::LogOut(_) => "logout",
            Self::Delete(_) | Self::DeleteOfPlannedTarget => "deletion",
        }
    }

    fn command(&self) -> String {
        let record = |(portal, target): &Pair| format!("iscsiadm -m node -T {target} -p {portal}");
        match self {
            Self::Discover(portal) => format!("timeout 40 iscsiadm -m discovery -t sendtargets -p {portal}"),
            Self::MakeRecord(pair) => format!("{} -o new", record(pair)),
            // iscsid would try eight times.
            Self::LogIn(pair) => format!(
                "{record} -o update -n node.session.initial_login_retry_max -v 1 && {record} --login",
                record = record(pair)
            ),
            Self::LogOut(pair) => format!("{} --logout", record(pair)),
            Self::Delete(target) => format!("iscsiadm -m node -T {target} -o delete"),
            Self::DeleteOfPlannedTarget => format!("iscsiadm -m node -T {ALPHA} -I default -o delete"),
        }
    }
}

/// What is on the host and not of Multibond.
#[derive(Debug)]
struct Belongings {
    /// Each file of open-iscsi's database with its digest, and each link with its target.
    records: BTreeMap<String, String>,
    /// Each session by number. A session that was made again has another one.
    sessions: BTreeMap<String, Pair>,
}

impl Belongings {
    async fn on(guest: &Guest) -> Self {
        let look = format!(
            "cd {}
             find . ! -name 'mb.*' -type f -exec sha256sum {{}} +
             find . -type l ! -name '*,mb.*' -printf '%l  %p\\n'
             cd /sys/class/iscsi_session
             for session in session*; do
               [ -e $session ] || continue
               connection=/sys/class/iscsi_connection/connection${{session#session}}:0
               echo session $session $(cat $session/ifacename $connection/persistent_address $session/targetname)
             done",
            guest.records()
        );
        let found = guest.run_ok(&look).await.unwrap();
        let (mut records, mut sessions) = (BTreeMap::new(), BTreeMap::new());
        for line in found.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["session", _, interface, ..] if interface.starts_with("mb.") => {}
                ["session", number, _, portal, target] => {
                    sessions.insert(number.to_owned(), (portal.to_owned(), target.to_owned()));
                }
                [content, "", path] => drop(records.insert(path.to_owned(), content.to_owned())),
                // A session that has come or gone in this moment.
                _ => {}
            }
        }
        Self { records, sessions }
    }

    /// Where it could log in to a target of its own: it has a record.
    fn known(&self) -> Vec<Pair> {
        let pair = |path: &String| {
            let (target, portal) = path.strip_prefix("./nodes/")?.split_once('/')?;
            let portal = portal.split(',').next().unwrap_or_default();
            (OWN.contains(&target) && !portal.contains(':')).then(|| (portal.to_owned(), target.to_owned()))
        };
        self.records.keys().filter_map(pair).collect()
    }
}

/// The tool.
pub struct BusyNeighbour<'a> {
    guest: &'a Guest,
    chance: Chance,
    has: Belongings,
    /// Where a login or a logout has failed: iscsid may still be at it, and how that ends is nobody's fault.
    undecided: BTreeSet<Pair>,
    /// How many of its commands of each kind have succeeded, and how many were run.
    commands: BTreeMap<&'static str, [usize; 2]>,
}

impl<'a> BusyNeighbour<'a> {
    /// Comes to a host on which nothing is its own yet.
    pub async fn new(guest: &'a Guest, chance: Chance) -> Self {
        Self { guest, chance, has: Belongings::on(guest).await, undecided: BTreeSet::new(), commands: BTreeMap::new() }
    }

    /// Uses its targets for as long as the condition holds, and then takes away what it has made.
    ///
    /// # Panics
    /// If somebody else has changed a record or a session of it.
    pub async fn stay_while(mut self, stays: impl Fn() -> bool) {
        self.take(Step::Discover("10.0.101.3".into())).await;
        while stays() {
            let step = Step::draw(&mut self.chance, &self.has);
            self.take(step).await;
            self.chance.pause(Duration::from_secs(2)).await;
            let now = Belongings::on(self.guest).await;
            self.compare("it did nothing", &now, None);
        }
        println!("the neighbour's commands, as [successful, all]: {:?}", self.commands);
        self.leave().await;
    }

    async fn take(&mut self, step: Step) {
        let code = self.guest.run(&step.command()).await.unwrap().code.unwrap();
        let done = code == 0 || matches!(step, Step::LogIn(_)) && code == SESSION_EXISTS;
        let now = Belongings::on(self.guest).await;
        self.compare(&format!("{step:?}"), &now, Some(&step));
        let has = |pair: &Pair| now.sessions.values().any(|other| other == pair);
        match &step {
            Step::LogIn(pair) if done => assert!(has(pair), "no session after {step:?}: {now:#?}"),
            Step::LogOut(pair) if done => assert!(!has(pair), "a session is left after {step:?}: {now:#?}"),
            Step::Discover(_) => {
                let lost: Vec<_> = self.has.records.keys().filter(|path| !now.records.contains_key(*path)).collect();
                assert!(lost.is_empty(), "records are gone after {step:?}: {lost:#?}");
            }
            _ => {}
        }
        if let Some(pair) = step.pair().filter(|_| code != NOTHING_FOUND) {
            if done {
                self.undecided.remove(pair)
            } else {
                self.undecided.insert(pair.clone())
            };
        }
        let [successful, all] = self.commands.entry(step.name()).or_default();
        (*successful, *all) = (*successful + usize::from(done), *all + 1);
        self.has = now;
    }

    /// Compares what it had with what there is, except for what a step of its own changes.
    fn compare(&self, during: &str, now: &Belongings, step: Option<&Step>) {
        let records = |all: &Belongings| {
            let others = all.records.clone().into_iter();
            others.filter(|(path, _)| !step.is_some_and(|step| step.concerns(path))).collect::<BTreeMap<_, _>>()
        };
        let sessions = |all: &Belongings| {
            let own = step.and_then(Step::pair);
            let others = all.sessions.clone().into_iter();
            others.filter(|(_, pair)| Some(pair) != own && !self.undecided.contains(pair)).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(records(&self.has), records(now), "others changed the neighbour's records: {during}");
        assert_eq!(sessions(&self.has), sessions(now), "others changed the neighbour's sessions: {during}");
    }

    /// Logs out everywhere, and deletes its records.
    async fn leave(self) {
        let log_out = OWN.map(|target| format!("iscsiadm -m node -T {target} --logout"));
        let delete = format!("iscsiadm -m node -I default -o delete; rm -rf {}/send_targets", self.guest.records());
        // A fault may still last, such as an iscsid that is stopped.
        eventually("no session of the neighbour", PATIENCE, async || {
            self.guest.run(&format!("{}; {delete}", log_out.join("; "))).await.unwrap();
            let sessions = Belongings::on(self.guest).await.sessions;
            if sessions.is_empty() { Ok(()) } else { Err(format!("{sessions:?}")) }
        })
        .await;
    }
}
