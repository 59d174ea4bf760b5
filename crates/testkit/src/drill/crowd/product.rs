//! A session of the product's own client.

use roomcast_client::{
    Event as Told, Subscriber,
    subscriber::{Continuity, Position as Place, Protocol},
};
use tokio::sync::watch;

use super::{Act, Order, Shared, connection::Profile, frame::number};
use crate::drill::history::{At, Event, History, Saw, digest};

/// Until the crowd is told to stop. Acts but that one are for lean sessions: this client has no such controls.
pub async fn run(
    index: usize,
    profile: Profile,
    shared: Shared,
    mut orders: watch::Receiver<Order>,
) -> History {
    let mut history = History { user: profile.user.clone(), room: profile.room, ..History::default() };
    let first = shared.nodes[index % shared.nodes.len()];
    let mut builder = Subscriber::builder(format!("ws://{first}/ws"));
    for node in shared.nodes.iter().filter(|node| **node != first) {
        builder = builder.url(format!("ws://{node}/ws"));
    }
    // On every node some of each.
    let is_even = (index / shared.nodes.len()).is_multiple_of(2);
    let protocol = if is_even { Protocol::Json } else { Protocol::Proto };
    let builder = builder.protocol(protocol);
    let builder = builder.user_id(&profile.user).client_id(&profile.client_id).room(&profile.room_id);
    let mut subscriber = builder.start().expect("its settings are valid");
    let mut is_connected = false;
    loop {
        let told = tokio::select! {
            told = subscriber.next() => told,
            _ = orders.wait_for(|order| order.act == Act::Stop) => break,
        };
        let Some(told) = told else { break };
        if let Told::Welcome(welcome) | Told::Reconnected(welcome) = &told {
            let place = (welcome.node_id.clone(), welcome.session_id.clone());
            *shared.places[index].lock().unwrap() = Some(place);
        }
        let Some(saw) = saw(told, &profile) else { continue };
        let was_connected = is_connected;
        match saw {
            Saw::Joined { .. } => is_connected = true,
            Saw::Lost | Saw::Ended { .. } => is_connected = false,
            Saw::Message { .. } => shared.messages.add(1),
            _ => {}
        }
        shared.connected.add(i64::from(is_connected) - i64::from(was_connected));
        history.events.push(Event { ms: shared.clock.now(), saw });
    }
    subscriber.close().await;
    history
}

fn saw(told: Told, profile: &Profile) -> Option<Saw> {
    Some(match told {
        // A gap follows where something may be missing, and it names the place.
        Told::Joined(joined) => match joined.continuity {
            Continuity::First => {
                Saw::Joined { position: joined.position.as_ref().and_then(at), recovered: None }
            }
            Continuity::Unbroken | Continuity::Recovered => {
                Saw::Joined { position: None, recovered: Some(true) }
            }
            Continuity::Lost | Continuity::Unknown => Saw::Joined { position: None, recovered: None },
        },
        Told::Gap { room_id: Some(_), to, .. } => Saw::Gap { position: to.as_ref().and_then(at) },
        Told::Push(push) => {
            let is_ours = matches!(&push.target, roomcast_client::subscriber::Target::Room(room) if *room == profile.room_id);
            match push.payload.as_text().and_then(number).filter(|_| is_ours) {
                None => Saw::Foreign,
                Some(number) => {
                    let position = push.position.as_ref().and_then(at);
                    Saw::Message { number, id: digest(&push.message_id), position }
                }
            }
        }
        Told::Left { .. } => Saw::Ended { code: 0 },
        Told::Disconnected { .. } => Saw::Lost,
        Told::Closed { code, .. } => Saw::Ended { code: code.unwrap_or_default() },
        _ => return None,
    })
}

fn at(place: &Place) -> Option<At> {
    Some(At { epoch: u64::from_str_radix(&place.epoch, 16).ok()?, offset: place.offset })
}
