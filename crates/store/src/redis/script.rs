//! The Lua scripts: each touches one hash tag, and is known to the server by its hash.

use std::sync::LazyLock;

use redis::Cmd;

/// One script and its hash.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Runs what the server has cached.
    pub(super) fn by_hash(&self, keys: &[&str], args: &[&[u8]]) -> Cmd {
        invocation("EVALSHA", &self.hash, keys, args)
    }

    /// Runs it, and has the server cache it.
    pub(super) fn by_code(&self, keys: &[&str], args: &[&[u8]]) -> Cmd {
        invocation("EVAL", self.code, keys, args)
    }
}

fn invocation(command: &str, script: &str, keys: &[&str], args: &[&[u8]]) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(script).arg(keys.len()).arg(keys).arg(args);
    command
}

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)*) => {
        $(
            pub(super) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(concat!($(include_str!(concat!("lua/", $file))),+)));
        )*
    };
}

scripts! {
    NOW = "now.lua";
    GENERATION = "generation.lua";
    CLAIM = "claim.lua";
    REJOIN = "room.lua" "rejoin.lua";
    ENTER = "room.lua" "enter.lua";
    EXIT = "room.lua" "exit.lua";
    EVICT = "room.lua" "evict.lua";
    MARK_ABSENT = "mark_absent.lua";
    TAKE_ABSENCE = "take_absence.lua";
    COUNTS = "counts.lua";
    PUT_CARD = "put_card.lua";
    CARD = "card.lua";
    BURY = "bury.lua";
    FORGET_ROOM = "forget_room.lua";
    INDEX = "index.lua";
    RAISE_VERSIONS = "raise_versions.lua";
    MEND_DUE = "mend_due.lua";
    LOAD = "load.lua";
    LOG_USE = "log_used.lua" "log_use.lua";
    LOG_APPEND = "log_used.lua" "log_append.lua";
    LOG_READ = "log_read.lua";
    LOG_RENEW = "log_renew.lua";
}
