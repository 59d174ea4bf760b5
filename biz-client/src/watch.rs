//! Follows what becomes of a message, live.

use std::io::{IsTerminal, stdout};

use roomcast_client::{Pusher, Receipt, Wait, WatchPushReply};

use crate::{
    args::{Level, Servers},
    degraded::Degraded,
    failure::Failure,
    output::Output,
    receipt,
};

/// Shows the receipt of a message with each change: redrawn on a terminal, else one line for each.
pub async fn run(
    servers: &Servers,
    message_id: &str,
    until: Option<Level>,
    output: &mut Output,
) -> Result<(), Failure> {
    let failed = |error| Failure::of("push-manager", "--push-manager", error);
    let pusher = Pusher::new(&servers.push_manager).map_err(failed)?.deadline(servers.timeout);
    let mut watch = pusher.watch(message_id, until.map(Wait::from)).await.map_err(failed)?;
    let mut screen = Screen { is_terminal: stdout().is_terminal(), lines: 0 };
    let mut last = Receipt::default();
    while let Some(reply) = watch.next().await.map_err(failed)? {
        if output.is_json() {
            output.compact(&reply)?;
        } else {
            screen.show(&reply, output)?;
        }
        last = reply.receipt.unwrap_or_default();
    }
    if last.complete { Ok(()) } else { Err(Failure::Incomplete) }
}

/// What was drawn last.
struct Screen {
    is_terminal: bool,
    lines: usize,
}

impl Screen {
    fn show(&mut self, reply: &WatchPushReply, output: &mut Output) -> Result<(), Failure> {
        let receipt = reply.receipt.clone().unwrap_or_default();
        let age = format!("{} ms", reply.age_ms);
        if !self.is_terminal {
            return output.line(&format!("{age}  {}", receipt::line(&receipt)));
        }
        let head = [("message", reply.message_id.clone()), ("age", age), Degraded(&reply.degraded).line()];
        let text = receipt::describe(head, &receipt);
        let text = text.trim_end();
        // Up to the first line of what was drawn, and everything below it goes.
        let back = if self.lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.lines) };
        self.lines = text.lines().count();
        output.line(&format!("{back}{text}"))
    }
}
