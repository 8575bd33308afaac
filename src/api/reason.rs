//! Condition types and reasons. docs/reference.md explains every one of them, so a user can look it up.

use super::closed_set::closed_set;

closed_set! {
    /// Why a path has failed, or is retained.
    PathReason {
        /// The portal does not answer: no route, refused, or no answer in time.
        PortalUnreachable,
        /// The portal answers, and does not know the target.
        TargetNotFound,
        /// The target refuses the credentials, or this initiator.
        AuthenticationFailed,
        /// The Secret with the CHAP credentials is missing, lacks a key, or may not be read.
        SecretNotFound,
        /// The host has no such network device.
        InterfaceNotFound,
        /// The network device has no address.
        NoAddress,
        /// The portal's DNS name cannot be resolved.
        NameNotResolved,
        /// iscsid does not run.
        InitiatorDown,
        /// The host has no open-iscsi.
        InitiatorMissing,
        /// open-iscsi's node database is locked by another process, or by one that was killed.
        DatabaseLocked,
        /// open-iscsi cannot read a record.
        InvalidRecord,
        /// The kernel has no `iscsi_tcp` module.
        KernelModuleMissing,
        /// The session came up on another device than asked for.
        WrongInterface,
        /// Kept, because a device of the session is in use, or because its target has no other session.
        InUse,
        /// The initiator did not finish in time.
        Timeout,
        /// Something that this program did not expect.
        Internal,
    } else Internal
}

closed_set! {
    /// Why a plan is empty; the first that applies.
    EmptyReason {
        /// Another Host has the node.
        NodeClaimed,
        /// The data center does not exist.
        DataCenterNotFound,
        /// The data center, or its namespace, is being deleted.
        DataCenterDeleting,
        /// The host is in maintenance.
        Maintenance,
        /// The host has not reported its interfaces, and they decide which networks it carries.
        InterfacesUnknown,
    }
}

closed_set! {
    /// Why `HostPrepared` is False: what wants attention on a host and stops nothing.
    PreparedReason {
        /// An interface that carries a network has another MTU than the network needs.
        MTUMismatch,
        /// Interfaces in one subnet, and `rp_filter` that drops answers.
        ReversePathFilter,
        /// multipathd does not run.
        MultipathdMissing,
        /// multipathd would ignore the LUNs (`find_multipaths`).
        FindMultipaths,
        /// The host has no open-iscsi.
        InitiatorMissing,
        /// iscsiadm and iscsid are of different versions.
        VersionMismatch,
        /// A multipath map has paths of targets that are of different storages. The controller finds it.
        SharedWWID,
        /// A session that Multibond has not made leads to a planned target.
        ForeignSession,
        /// Something else on the host logs sessions of Multibond out, or changes their disks or records.
        Interference,
        /// open-iscsi logs in to planned portals by itself when the host boots.
        AutomaticRecords,
        /// Another host has the same initiator name, so arrays take the two for one. The controller finds it.
        DuplicateInitiatorName,
        /// `spec.interfaces` names a network that the data center does not have. The controller finds it.
        NetworkNotFound,
        /// `spec.interfaces` names a device without an address in the network's subnets. The controller finds it.
        AddressOutsideSubnets,
        /// A Secret that the plan names cannot be used. Sessions live on, and are not made again.
        SecretNotFound,
        /// iscsid refuses to log out sessions with something mounted over them (`iscsid.safe_logout`).
        SafeLogout,
        /// A LUN has several disks and no multipath map: the configuration hides it, or something has taken a disk.
        Blacklisted,
        /// open-iscsi's node database is on a read-only file system.
        ReadOnlyDatabase,
        /// A file among open-iscsi's node records that is none, so that commands about all records fail.
        UnusableRecord,
        /// A service of the host logs every session out when it stops, while something may still write to the LUNs.
        LogoutAtShutdown,
        /// Something that a newer agent knows, and this version does not.
        Other,
    } else Other
}

impl PreparedReason {
    /// Whether a controller of the first version decodes it. One with another reason in `status.agent.warnings` would be an
    /// unreadable Host to it, which freezes its data center.
    #[must_use]
    pub fn is_known_to_every_version(self) -> bool {
        use PreparedReason::{
            FindMultipaths, InitiatorMissing, MTUMismatch, MultipathdMissing, ReversePathFilter, VersionMismatch,
        };
        matches!(
            self,
            MTUMismatch | ReversePathFilter | MultipathdMissing | FindMultipaths | InitiatorMissing | VersionMismatch
        )
    }
}

closed_set! {
    /// Condition types of all four kinds.
    ConditionType {
        /// kstatus: the object is as it should be.
        Ready,
        /// Host: the verdict.
        Operational,
        /// Host and IscsiBond: every planned path is connected.
        FullyConnected,
        /// Host: every LUN has its paths, and one size.
        LunsHealthy,
        /// Host: its agent reports.
        AgentReady,
        /// Host: nothing on it wants attention.
        HostPrepared,
        /// DataCenter: its storage is listed without contradiction.
        StorageValid,
        /// DataCenter: no portal fails on more than one host.
        PortalsReachable,
        /// DataCenter with `spec.hosts`: every Node that matches has its Host.
        HostsMade,
        /// DataCenter with the taint `NoExecute`: the storage seems to have failed, so no host is evicted.
        EvictionsHeld,
        /// IscsiBond: every network that it names is a network of its data center.
        NetworksResolved,
        /// IscsiBond: every target that it lists is a target of its data center's storage.
        TargetsResolved,
        /// IscsiBond: hosts carry every network of it, all the same ones, and each leads to a portal.
        NetworksUsed,
        /// Network: no other network of its data center has an address of its subnets.
        SubnetsDistinct,
    }
}

closed_set! {
    /// Reasons of Events, beside the phases: a host that changes its phase has an Event with the new phase as reason.
    EventReason {
        /// IscsiBond: the first host of its data center became NonOperational.
        HostsNonOperational,
        /// IscsiBond: no host of its data center is NonOperational any more.
        HostsOperational,
        /// IscsiBond: its first path on any host failed.
        PathsFailed,
        /// IscsiBond: none of its paths is failed any more.
        PathsRecovered,
        /// DataCenter: a portal began to fail on more than one host.
        PortalsFailed,
        /// DataCenter: the portals that failed on more than one host fail on none any more.
        PortalsRecovered,
        /// An object was deleted although hosts had not logged out in time.
        DeletionTimedOut,
        /// Host: it was deleted, and sessions were left on its node.
        SessionsLeft,
        /// IscsiBond: a Network was deleted, and its name was removed from the bond.
        NetworkDropped,
        /// DataCenter: Hosts were created for Nodes that `spec.hosts` matches.
        HostsCreated,
        /// DataCenter: Hosts that were created for it were deleted, because their Nodes are gone or no longer match.
        HostsDeleted,
        /// DataCenter: it is being deleted, and its bonds, its networks and the Hosts created for it are deleted with it.
        MembersDeleted,
        /// Host: it was created for a data center, and was moved back there.
        HostMovedBack,
        /// Host: in maintenance, and nothing is connected any more: the node may be switched off.
        MaintenanceReady,
        /// Host: in maintenance, and sessions stay because their disks are in use.
        MaintenanceBlocked,
    }
}

closed_set! {
    /// Reasons of conditions (beyond those of an empty plan, of paths and of `HostPrepared`).
    Reason {
        /// Nothing has looked at the object yet.
        Pending,
        /// As it should be.
        Ready,
        /// Work is under way.
        Progressing,
        /// An object of the data center cannot be read; plans stay as they are.
        Frozen,
        /// The object is being deleted.
        Deleting,
        /// Every planned path is connected.
        AllPathsConnected,
        /// A planned path has failed.
        PathsFailed,
        /// Every LUN has its paths, and one size.
        AllLunsHealthy,
        /// The sessions show no LUN.
        NoLuns,
        /// A portal fails on more than one host, or did and still fails on one.
        PortalsFailed,
        /// No portal fails on more than one host.
        Reachable,
        /// First attempts are under way.
        Connecting,
        /// A target has lost its last path a short while ago.
        StorageLost,
        /// A target is held, and has no session: a bond names a network that does not exist, or nearly its name.
        TargetsHeld,
        /// A target is not reachable.
        StorageUnreachable,
        /// A target has no network on this host, and the default network may not be used.
        NoNetwork,
        /// Every target is reachable.
        TargetsReachable,
        /// There is nothing to connect to.
        NothingToConnect,
        /// Sessions are being logged out.
        Disconnecting,
        /// Sessions stay, because their devices are in use.
        InUse,
        /// The agent renews its lease.
        AgentAlive,
        /// The agent has stopped renewing its lease.
        AgentSilent,
        /// No agent has ever reported for the node.
        AgentMissing,
        /// A field of the Host's status cannot be read; its plan stays as it is.
        StatusUnreadable,
        /// Nothing on the host wants attention.
        Prepared,
        /// The storage is listed without contradiction.
        Valid,
        /// Two storages list one target.
        DuplicateTarget,
        /// One portal is listed twice.
        DuplicatePortal,
        /// A portal is pinned to a network that does not exist.
        PortalNetworkNotFound,
        /// A target's name is refused by the agents, or has characters that RFC 3722 forbids.
        InvalidTargetName,
        /// A portal has an address at which no storage can be.
        UselessPortal,
        /// Every Node that matches `spec.hosts` has its Host.
        Made,
        /// Another data center of the namespace selects the Node as well, and has made its Host.
        NodesSelectedTwice,
        /// A Host of the Node's name is of another data center, or of another Node.
        HostNameTaken,
        /// The API server refuses the Host that is to be made.
        HostRefused,
        /// The data center does not exist.
        DataCenterNotFound,
        /// A network does not exist.
        NetworkNotFound,
        /// A bond lists a target that no storage of its data center has.
        TargetNotFound,
        /// A network belongs to another data center.
        NetworkInOtherDataCenter,
        /// A network of the bond that hosts carry leads to no portal.
        NetworkWithoutPath,
        /// No host in service carries a network of the bond.
        NetworkNotCarried,
        /// Some hosts carry fewer networks of the bond than others.
        HostsDiffer,
        /// Another network has the same subnet.
        SubnetShared,
        /// A subnet is within one of another network.
        SubnetNested,
        /// No other network has an address of these subnets.
        Distinct,
        /// `multibond plan`: the Hosts that are made for Nodes are not in the input.
        HostsUnknown,
        /// Every network is found.
        Resolved,
        /// Every network is used.
        Used,
        /// The plan is larger than a Host can hold; the one before stays.
        PlanTooLarge,
        /// A host is NonOperational.
        HostsNonOperational,
        /// The host is fine.
        Up,
        /// The host reaches every target, and some path has failed.
        Degraded,
        /// The host is in maintenance.
        Maintenance,
    }
}
