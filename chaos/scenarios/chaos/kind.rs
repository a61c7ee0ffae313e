//! What may happen to three regions.

/// One kind of fault or disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    KillNode,
    KillLeader,
    KillWorker,
    KillRegion,
    StopNode,
    StopWorker,
    CutLink,
    CutOneWay,
    IsolateRegion,
    FlapLink,
    SlowLink,
    LossyLink,
    NodeFromPeers,
    WorkerFromNodes,
    UnplugRegion,
    TransferLeader,
    Switchover,
    RestartInOrder,
    LoseRegion,
    ShiftWallClock,
    BendClock,
    SlowSyncs,
    FillNodeDisk,
    FillWorkerDisk,
}

/// What a kind takes beyond processes and links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// Namespaces: one of networks for each region, one of mounts.
    Namespaces,
    /// A C compiler, for what is preloaded.
    Compiler,
}

impl Kind {
    pub const ALL: [Self; 24] = [
        Self::KillNode,
        Self::KillLeader,
        Self::KillWorker,
        Self::KillRegion,
        Self::StopNode,
        Self::StopWorker,
        Self::CutLink,
        Self::CutOneWay,
        Self::IsolateRegion,
        Self::FlapLink,
        Self::SlowLink,
        Self::LossyLink,
        Self::NodeFromPeers,
        Self::WorkerFromNodes,
        Self::UnplugRegion,
        Self::TransferLeader,
        Self::Switchover,
        Self::RestartInOrder,
        Self::LoseRegion,
        Self::ShiftWallClock,
        Self::BendClock,
        Self::SlowSyncs,
        Self::FillNodeDisk,
        Self::FillWorkerDisk,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::KillNode => "kill -9 a node",
            Self::KillLeader => "kill -9 the leader",
            Self::KillWorker => "kill -9 a worker",
            Self::KillRegion => "kill -9 a region",
            Self::StopNode => "stop a node",
            Self::StopWorker => "stop a worker past its lease",
            Self::CutLink => "cut a link",
            Self::CutOneWay => "cut a link one way",
            Self::IsolateRegion => "isolate a region",
            Self::FlapLink => "flap a link",
            Self::SlowLink => "slow a link",
            Self::LossyLink => "lose packets of a link",
            Self::NodeFromPeers => "cut a node from its peers only",
            Self::WorkerFromNodes => "cut a worker from all nodes only",
            Self::UnplugRegion => "pull a region's cable",
            Self::TransferLeader => "transfer leadership",
            Self::Switchover => "switch over",
            Self::RestartInOrder => "restart all in order",
            Self::LoseRegion => "lose a region until it is replaced",
            Self::ShiftWallClock => "shift a wall clock",
            Self::BendClock => "bend a clock's rate",
            Self::SlowSyncs => "slow a process's syncs",
            Self::FillNodeDisk => "fill a node's disk",
            Self::FillWorkerDisk => "fill a worker's disk",
        }
    }

    pub fn needs(self) -> Needs {
        match self {
            Self::LossyLink | Self::NodeFromPeers | Self::WorkerFromNodes | Self::UnplugRegion => {
                Needs::Namespaces
            }
            Self::FillNodeDisk | Self::FillWorkerDisk => Needs::Namespaces,
            Self::ShiftWallClock | Self::BendClock | Self::SlowSyncs => Needs::Compiler,
            _ => Needs::Nothing,
        }
    }
}
