//! Messages on one node whose outcome may still change, by id.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use roomcast_proto::pubsub::Outcome;
use roomcast_types::{MessageId, unix_millis};

use crate::{
    ledger::{Account, Book},
    push::{Taken, Ticket},
};

/// Messages at most; past that the oldest stay as they are.
const MAX: usize = 65_536;
/// Repeats of one message that are answered at once; a further one hears nothing.
const REPEATS_MAX: usize = 64;
/// No push is asked about for longer.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The messages; ids grow with time.
#[derive(Debug)]
pub struct Open {
    messages: BTreeMap<MessageId, Box<Message>>,
    book: Book,
    /// The youngest that was looked at as overdue.
    overdue: Option<MessageId>,
}

#[derive(Debug)]
struct Message {
    ticket: Ticket,
    /// Of repeats of the message, which are answered while it is open.
    repeats: Vec<Ticket>,
    account: Account,
    is_given_up: bool,
}

impl Open {
    /// None yet.
    pub fn new(book: Book) -> Self {
        Self { messages: BTreeMap::new(), book, overdue: None }
    }

    /// This life of the node speaks from now on.
    pub fn meet(&mut self, life: u64) {
        self.book.meet(life);
    }

    /// A message is on its way.
    pub fn add(&mut self, message_id: MessageId, ticket: Ticket) {
        if let Some(message) = self.messages.get_mut(&message_id) {
            message.join(ticket);
            return;
        }
        if self.messages.len() == MAX
            && let Some((_, oldest)) = self.messages.pop_first()
        {
            self.book.forget(&oldest.account);
        }
        let account = self.book.open(message_id, ticket.announced);
        let message = Message { ticket, repeats: Vec::new(), account, is_given_up: false };
        self.messages.insert(message_id, Box::new(message));
    }

    /// Hands an outcome to its push; false when that no longer wants it.
    pub fn settle(&mut self, outcome: Outcome) -> bool {
        let Some(message_id) = MessageId::from_bytes(&outcome.message_id) else { return false };
        // What was walked before is answered at any time.
        let Some(message) = self.messages.get_mut(&message_id) else { return outcome.repeat };
        let is_repeat = outcome.repeat;
        if is_repeat {
            self.book.repeated(&mut message.account);
        } else {
            self.book.told(&mut message.account, &outcome);
        }
        // Of the first push the node speaks once more, without the mark, unless another push-manager brought it.
        let is_final = message.ticket.is_final(&outcome) && (!is_repeat || message.ticket.is_repeat());
        for ticket in &message.repeats {
            ticket.tried(outcome.clone());
        }
        let taken = message.ticket.tried(outcome);
        // One whose push is forgotten or given up is followed on: the ledger hears all.
        if is_final {
            self.messages.remove(&message_id);
        }
        taken != Taken::Late
    }

    /// The message is given up. What the node still says of it is heard by the ledger alone. That a repeat is says nothing of
    /// the first, which may have arrived.
    pub fn give_up(&mut self, message_id: MessageId, ticket: Ticket) -> Option<Ticket> {
        let message = self.messages.get_mut(&message_id)?;
        if ticket.is_repeat() && !message.ticket.is_repeat() {
            return Some(ticket);
        }
        self.book.lost(&mut message.account);
        let is_news = !std::mem::replace(&mut message.is_given_up, true);
        is_news.then(|| message.ticket.clone())
    }

    /// All are, and nobody is left to speak of them.
    pub fn take_all(&mut self) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        for mut message in std::mem::take(&mut self.messages).into_values() {
            self.book.lost(&mut message.account);
            tickets.append(&mut message.repeats);
            if !message.is_given_up {
                tickets.push(message.ticket);
            }
        }
        tickets
    }

    /// Notes those that should have their outcomes by now, and drops those that nobody asks about any more.
    pub fn forget_old(&mut self) {
        let now_ms = unix_millis().unsigned_abs();
        let before = |age: Duration| now_ms.saturating_sub(age.as_millis() as u64);
        let due = before(self.book.overdue_after());
        let from = self.overdue.map_or(Unbounded, Excluded);
        for (message_id, message) in self.messages.range_mut((from, Unbounded)) {
            if message_id.unix_ms() >= due {
                break;
            }
            self.book.overdue(&mut message.account);
            self.overdue = Some(*message_id);
        }
        let oldest = before(KEPT_FOR);
        while self.messages.first_key_value().is_some_and(|(message_id, _)| message_id.unix_ms() < oldest) {
            self.messages.pop_first();
        }
    }
}

impl Message {
    /// The message goes out again, or the first push does after a repeat of it.
    fn join(&mut self, ticket: Ticket) {
        let mut repeat = ticket;
        if !repeat.is_repeat() && self.ticket.is_repeat() {
            self.account.expect(repeat.announced);
            std::mem::swap(&mut self.ticket, &mut repeat);
        }
        self.repeats.retain(Ticket::is_heard);
        if repeat.is_heard() && self.repeats.len() < REPEATS_MAX {
            self.repeats.push(repeat);
        }
    }
}
