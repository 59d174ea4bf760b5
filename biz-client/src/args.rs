//! What can be written on the command line.

use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use roomcast_types::{RoomId, UserId};

pub use self::{
    how::{How, Level},
    questions::{Keeps, Membership, NodeQuestion, OnLogFailure, RoomQuestion, UserQuestion},
};

mod how;
mod questions;

/// Pushes through Roomcast, and looks after its rooms, users and nodes.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Examples:\n  \
        biz-client push room room-001 \"Hello\"\n  \
        biz-client --action push-to-room --room room-001 --message \"Hello\" --type TEXT\n  \
        biz-client push user user-001 @photo.jpg --type STATE\n  \
        biz-client push room room-001 \"Hello\" --wait acked --wait-ms 5000\n  \
        biz-client watch 01J5ZK6Q7V8W9X0Y1Z2A3B4C5D\n  \
        biz-client room show room-001\n  \
        biz-client listen room room-001\n  \
        biz-client history room-001 --limit 20\n  \
        biz-client explain --user user-001\n\n\
        A message is text as given, @FILE for a file (@@text for text that begins with @), or - for standard input; \
        bytes that are not UTF-8 are pushed as binary.\n\
        Exit code: 0 accepted, and the level of --wait reached when one was given; 1 refused or nobody answered; \
        2 wrong usage; 3 accepted, and the level of --wait or --until was not reached in time."
)]
pub struct Args {
    #[command(flatten)]
    pub servers: Servers,
    #[command(flatten)]
    pub flags: Flags,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Whom to ask, and how to show the answer.
#[derive(Debug, ClapArgs)]
pub struct Servers {
    /// Push-managers, host:port; several separated by commas.
    #[arg(
        long,
        global = true,
        env = "PUSH_MANAGER",
        default_value = "localhost:50053",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    pub push_manager: Vec<String>,
    /// Controller-managers, host:port; several separated by commas.
    #[arg(
        long,
        global = true,
        env = "CONTROLLER_ADDRESS",
        default_value = "localhost:50051",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    pub controller: Vec<String>,
    /// How to show the answer.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// How long to wait for an answer, for example 5s or 250ms.
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
}

/// How an answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// The reply as JSON, snake_case, defaults written out.
    Json,
}

/// A push described by flags alone.
#[derive(Debug, ClapArgs)]
pub struct Flags {
    /// What to do, when no command is given.
    #[arg(long, value_enum)]
    pub action: Option<Action>,
    /// Room of push-to-room.
    #[arg(long)]
    pub room: Option<RoomId>,
    /// User of push-to-user.
    #[arg(long)]
    pub user: Option<UserId>,
    /// The message: text, @FILE, or - for standard input.
    #[arg(long, allow_hyphen_values = true)]
    pub message: Option<String>,
    #[command(flatten)]
    pub how: How,
}

impl Flags {
    /// Whether any of them was written.
    pub fn is_given(&self) -> bool {
        let what = self.action.is_some() || self.message.is_some();
        what || self.room.is_some() || self.user.is_some() || self.how != How::default()
    }
}

/// What `--action` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// To every session in --room.
    PushToRoom,
    /// To every session of --user.
    PushToUser,
    /// To everyone.
    Broadcast,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Push a message.
    Push {
        #[command(subcommand)]
        target: PushTarget,
    },
    /// Follow what becomes of a message until every target has its outcome.
    Watch {
        /// As the push was answered: 26 characters.
        message_id: String,
        /// Stop when this is reached; unless given, acked for a push with acknowledgements, else settled.
        #[arg(long, value_enum, ignore_case = true)]
        until: Option<Level>,
    },
    /// The messages that a log keeps, oldest first.
    History(History),
    /// Ask about rooms and change them.
    Room {
        #[command(subcommand)]
        question: RoomQuestion,
    },
    /// Ask about a user, or end its sessions.
    User {
        #[command(subcommand)]
        question: UserQuestion,
    },
    /// Ask about connect-nodes.
    Node {
        #[command(subcommand)]
        question: NodeQuestion,
    },
    /// Ask whether every target of the recent pushes is accounted for; the exit code is 1 when one is not.
    Audit {
        /// How far to look back, from 1m to 24h.
        #[arg(long, default_value = "1h", value_name = "TIME", value_parser = since)]
        since: Since,
    },
    /// Why messages did or did not reach a user, or the members of a room: what every part says, then one sentence.
    Explain(Explain),
    /// The way of one message, hop by hop, with times.
    Trace {
        /// As the push answered.
        message_id: String,
    },
    /// Connect as a client and print what arrives, until Ctrl-C.
    Listen {
        #[command(subcommand)]
        to: ListenTo,
    },
}

/// Which messages of which log.
#[derive(Debug, ClapArgs)]
pub struct History {
    /// Of this room.
    #[arg(required_unless_present = "user", conflicts_with = "user")]
    pub room: Option<RoomId>,
    /// Of messages to this user, and to nobody else.
    #[arg(long)]
    pub user: Option<UserId>,
    /// Only those after this offset; the newest unless given.
    #[arg(long, value_name = "OFFSET", conflicts_with = "before")]
    pub after: Option<u64>,
    /// Only those before this offset.
    #[arg(long, value_name = "OFFSET")]
    pub before: Option<u64>,
    /// Most messages to show.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
}

/// What is to be explained.
#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// Messages for this user; with --room, those of that room.
    #[arg(long, required_unless_present = "room")]
    pub user: Option<UserId>,
    /// Messages for this room.
    #[arg(long)]
    pub room: Option<RoomId>,
    /// This message, as the push answered; the last ones unless given.
    #[arg(long, value_name = "MESSAGE_ID", default_value = "")]
    pub message: String,
    /// Most messages to show.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub last: u32,
}

/// Whom a push is for.
#[derive(Debug, Subcommand)]
pub enum PushTarget {
    /// To every session in a room.
    Room {
        /// Its id, for example room-001.
        room: RoomId,
        /// Text, @FILE for a file (@@ for a text that begins with @), or - for standard input.
        #[arg(allow_hyphen_values = true)]
        message: String,
        #[command(flatten)]
        how: How,
    },
    /// To every session of a user.
    User {
        /// Its id, for example user-001.
        user: UserId,
        /// Text, @FILE for a file (@@ for a text that begins with @), or - for standard input.
        #[arg(allow_hyphen_values = true)]
        message: String,
        #[command(flatten)]
        how: How,
    },
    /// To every session of several users, separated by commas.
    Users {
        /// Their ids, for example user-001,user-002.
        #[arg(value_delimiter = ',', num_args = 1, required = true)]
        users: Vec<UserId>,
        /// Text, @FILE for a file (@@ for a text that begins with @), or - for standard input.
        #[arg(allow_hyphen_values = true)]
        message: String,
        #[command(flatten)]
        how: How,
    },
    /// To everyone.
    Broadcast {
        /// Text, @FILE for a file (@@ for a text that begins with @), or - for standard input.
        #[arg(allow_hyphen_values = true)]
        message: String,
        #[command(flatten)]
        how: How,
    },
}

impl PushTarget {
    /// How it is pushed.
    pub fn how(&self) -> &How {
        match self {
            Self::Room { how, .. }
            | Self::User { how, .. }
            | Self::Users { how, .. }
            | Self::Broadcast { how, .. } => how,
        }
    }
}

/// As whom to listen.
#[derive(Debug, Subcommand)]
pub enum ListenTo {
    /// To a room, as one of its members: this takes a seat.
    Room {
        /// Its id, for example room-001.
        room: RoomId,
        /// The user to be; a random one unless given.
        #[arg(long)]
        user: Option<UserId>,
        #[command(flatten)]
        until: Until,
    },
    /// To what is pushed to a user and to everyone.
    User {
        /// Its id, for example user-001.
        user: UserId,
        #[command(flatten)]
        until: Until,
    },
}

/// Where to listen and when to stop.
#[derive(Debug, ClapArgs)]
pub struct Until {
    /// A node, ws://host:port/ws; the controller names one unless given.
    #[arg(long)]
    pub url: Option<String>,
    /// Stop after so many messages.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Acknowledge nothing; otherwise what wants it is acknowledged when it arrives.
    #[arg(long)]
    pub no_ack: bool,
    /// How frames are written on the wire; what is printed is the same.
    #[arg(long, value_enum, default_value = "json")]
    pub protocol: Protocol,
}

/// The sub-protocol of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// pubsub.json.v1.
    Json,
    /// pubsub.proto.v1.
    Proto,
}

/// How far an audit looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(pub Duration);

fn since(text: &str) -> Result<Since, String> {
    let bounds = Duration::from_secs(60)..=Duration::from_secs(86_400);
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds).map(Duration::from_secs)
    });
    let within = parsed.filter(|parsed| bounds.contains(parsed));
    within.map(Since).ok_or_else(|| "it takes 1m to 24h, for example 90s, 15m or 1h".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    let parsed = units.iter().find_map(|(unit, millis)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis).filter(|millis| *millis > 0)
    });
    parsed.map(Duration::from_millis).ok_or_else(|| "write 250ms, 5s or 1m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_are_written_with_their_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(since("90s"), Ok(Since(Duration::from_secs(90))));
        assert_eq!(since("24h"), Ok(Since(Duration::from_secs(86_400))));
        for bad in ["", "1", "59s", "0m", "25h", "-1h", "1d", "99999999999999999999h"] {
            assert!(since(bad).unwrap_err().contains("1m to 24h"), "{bad}");
        }
        for bad in ["", "5", "s", "0s", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
