//! What can be asked about rooms, users and nodes.

use clap::{Subcommand, ValueEnum};
use roomcast_types::{NodeId, RoomId, UserId};

/// How long a seat lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Membership {
    /// As long as its user has a session there, with a grace for coming back.
    Follow,
    /// Until the user leaves.
    Durable,
}

/// What a room keeps of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Keeps {
    /// Nothing: who is away misses them.
    None,
    /// The last minutes.
    Recent,
    /// Days, in the record.
    Durable,
}

/// What becomes of a push whose log does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnLogFailure {
    /// It goes out, and its answer says that it is not logged. A durable log refuses all the same.
    Degrade,
    /// It is refused.
    Refuse,
}

/// Most lines of a list unless told otherwise.
const LIMIT: &str = "1000";

/// What can be asked about rooms.
#[derive(Debug, Subcommand)]
pub enum RoomQuestion {
    /// All rooms by id.
    List {
        /// Most rooms to show.
        #[arg(long, default_value = LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// The card of a room and its members.
    Show {
        /// Its id, for example room-001.
        room: RoomId,
        /// Most members to show.
        #[arg(long, default_value = LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Create a room that is kept when empty.
    Create {
        /// Its id, for example room-001.
        room: RoomId,
        /// Seats; the server's room.default_max_users unless given.
        #[arg(long)]
        max_users: Option<u32>,
        #[arg(long, value_enum, ignore_case = true, default_value_t = Membership::Follow)]
        membership: Membership,
        /// What it keeps of its messages; the server's log.room unless given.
        #[arg(long, value_enum, ignore_case = true)]
        log: Option<Keeps>,
        #[arg(long, value_enum, ignore_case = true, default_value_t = OnLogFailure::Degrade)]
        on_log_failure: OnLogFailure,
    },
    /// Change what is given and leave the rest.
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["max_users", "membership", "log", "on_log_failure"]))]
    Update {
        /// Its id, for example room-001.
        room: RoomId,
        #[arg(long)]
        max_users: Option<u32>,
        #[arg(long, value_enum, ignore_case = true)]
        membership: Option<Membership>,
        /// What it keeps of its messages. A change removes what was kept.
        #[arg(long, value_enum, ignore_case = true)]
        log: Option<Keeps>,
        #[arg(long, value_enum, ignore_case = true)]
        on_log_failure: Option<OnLogFailure>,
    },
    /// Remove a room and its seats.
    Delete {
        /// Its id, for example room-001.
        room: RoomId,
    },
    /// Give a user a seat.
    Join {
        /// Its id, for example room-001.
        room: RoomId,
        /// Its id, for example user-001.
        user: UserId,
        /// For display.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Take the seat of a user.
    Leave {
        /// Its id, for example room-001.
        room: RoomId,
        /// Its id, for example user-001.
        user: UserId,
    },
    /// Counts of one room, or of all.
    Stats {
        /// Its id, for example room-001; all rooms unless given.
        room: Option<RoomId>,
    },
}

/// What can be asked about users.
#[derive(Debug, Subcommand)]
pub enum UserQuestion {
    /// Where a user is online, with its sessions.
    Show {
        /// Its id, for example user-001.
        user: UserId,
    },
    /// Close the sessions of a user, or take it out of one room.
    Kick {
        /// Its id, for example user-001.
        user: UserId,
        /// Only out of this room.
        #[arg(long)]
        room: Option<RoomId>,
        /// Only this session.
        #[arg(long, default_value = "")]
        session: String,
    },
}

/// What can be asked about nodes, and of them.
#[derive(Debug, Subcommand)]
pub enum NodeQuestion {
    /// Registered nodes.
    List,
    /// A ready node for a new client.
    Select {
        /// A node not to be chosen; may be given many times.
        #[arg(long, value_name = "NODE")]
        exclude: Vec<NodeId>,
    },
    /// Sessions of a node.
    Sessions {
        /// Its id, for example connect-node-1.
        node: NodeId,
        /// Most sessions to show.
        #[arg(long, default_value = LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Send the sessions of a node to other nodes, and end it; shows how far it has come until it has ended.
    Drain {
        /// Its id, for example connect-node-1.
        node: NodeId,
    },
}
