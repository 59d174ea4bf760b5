//! One connection through a way, from its acceptance to its end.

use std::{io, sync::atomic::AtomicBool, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpStream, sync::watch};

use super::{
    Direction,
    door::Door,
    pump::{End, Pump},
    settings::{Admission, Settings},
};

/// How a connection ends.
enum Verdict {
    /// Both directions are at their end.
    Done,
    Close,
    Reset,
    /// Who connected sees a reset, the target the end.
    ResetNear,
}

/// Carries a connection until its end or that of the way.
pub async fn carry(door: Door, near: TcpStream, number: u64, mut settings: watch::Receiver<Settings>) {
    let admission = settings.borrow().admission;
    match admission {
        Admission::Pass => {}
        Admission::Silent => {
            let _ = settings.wait_for(|settings| settings.admission != Admission::Silent).await;
            return;
        }
        Admission::Reset => return reset(&near),
    }
    let far = tokio::select! {
        far = door.connect() => far,
        verdict = ordered(settings.clone(), number) => return end(verdict, &near, None),
    };
    let Some(far) = far else { return reset(&near) };
    // A way adds no delay of its own.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let is_doomed = AtomicBool::new(false);
    let onward = Pump::new(Direction::Onward, &near, &far, number, settings.clone(), &is_doomed);
    let back = Pump::new(Direction::Back, &far, &near, number, settings.clone(), &is_doomed);
    let verdict = tokio::select! {
        verdict = both(onward, back, &door) => verdict,
        verdict = ordered(settings.clone(), number) => verdict,
    };
    end(verdict, &near, Some(&far));
}

async fn both(onward: Pump<'_>, back: Pump<'_>, door: &Door) -> Verdict {
    let (mut onward, mut back) = (Box::pin(onward.run()), Box::pin(back.run()));
    let (first, is_back) = tokio::select! {
        end = &mut onward => (end, false),
        end = &mut back => (end, true),
    };
    let last = match (first, is_back) {
        (End::Finished, false) => back.await,
        (End::Finished, true) => onward.await,
        (end, _) => end,
    };
    match last {
        End::Finished => Verdict::Done,
        End::Trapped => Verdict::ResetNear,
        End::Reset => Verdict::Reset,
        End::Broken => {
            door.look().await;
            Verdict::Reset
        }
    }
}

/// What somebody orders for this connection.
async fn ordered(mut settings: watch::Receiver<Settings>, number: u64) -> Verdict {
    let orders = |settings: &Settings| number < settings.closed_before.max(settings.reset_before);
    match settings.wait_for(orders).await {
        Ok(settings) if number < settings.reset_before => Verdict::Reset,
        _ => Verdict::Close,
    }
}

fn end(verdict: Verdict, near: &TcpStream, far: Option<&TcpStream>) {
    match verdict {
        Verdict::Done | Verdict::Close => {}
        Verdict::ResetNear => reset(near),
        Verdict::Reset => {
            reset(near);
            far.into_iter().for_each(reset);
        }
    }
}

/// Has the drop of a stream send a reset.
fn reset(stream: &TcpStream) {
    let _: io::Result<()> = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
