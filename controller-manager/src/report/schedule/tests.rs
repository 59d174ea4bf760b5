//! What the order of work promises.

use proptest::prelude::*;

use super::*;

fn user(number: u8) -> UserId {
    UserId::new(format!("user-{number}")).unwrap()
}

#[test]
fn changes_of_one_user_run_one_after_the_other() {
    let mut schedule: Schedule<u32, ()> = Schedule::default();
    schedule.push_change(user(1), 0, 1);
    schedule.push_change(user(1), 9, 2);
    schedule.push_change(user(2), 0, 3);
    assert_eq!(schedule.next(), Some(Job::Change(user(1), 1)));
    assert_eq!(schedule.next(), Some(Job::Change(user(2), 3)));
    assert_eq!(schedule.next(), None);
    schedule.change_done(&user(1), 0);
    assert_eq!(schedule.next(), Some(Job::Change(user(1), 2)));
}

#[test]
fn a_slice_in_full_waits_for_earlier_changes_and_holds_later_ones() {
    let mut schedule: Schedule<u32, &str> = Schedule::default();
    schedule.push_change(user(1), 4, 1);
    schedule.push_slice(4, "full");
    schedule.push_change(user(2), 4, 2);
    schedule.push_change(user(3), 5, 3);
    assert_eq!(schedule.next(), Some(Job::Change(user(1), 1)));
    assert_eq!(schedule.next(), Some(Job::Change(user(3), 3)), "another slice is not held");
    assert_eq!(schedule.next(), None);
    schedule.change_done(&user(1), 4);
    assert_eq!(schedule.next(), Some(Job::Slice(4, "full")));
    assert_eq!(schedule.next(), None);
    schedule.slice_done(4);
    assert_eq!(schedule.next(), Some(Job::Change(user(2), 2)));
}

#[derive(Debug, Clone)]
enum Arrival {
    Change(u8, usize),
    Slice(usize),
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = prop_oneof![
        3 => (0..4u8, 0..3usize).prop_map(|(user, slice)| Arrival::Change(user, slice)),
        1 => (0..3usize).prop_map(Arrival::Slice),
    ];
    proptest::collection::vec(one, 0..60)
}

/// What runs: its place in the order of arrival, and what it is.
type Running = (usize, Option<UserId>, usize);

fn start(schedule: &mut Schedule<(usize, usize), usize>, running: &mut Vec<Running>) {
    while let Some(job) = schedule.next() {
        running.push(match job {
            Job::Change(user, (at, slice)) => (at, Some(user), slice),
            Job::Slice(slice, at) => (at, None, slice),
        });
    }
}

/// Whether two things that arrived must not overtake each other.
fn is_ordered(a: &Arrival, b: &Arrival) -> bool {
    match (a, b) {
        (Arrival::Change(u, _), Arrival::Change(v, _)) => u == v,
        (Arrival::Change(_, s), Arrival::Slice(t))
        | (Arrival::Slice(s), Arrival::Change(_, t))
        | (Arrival::Slice(s), Arrival::Slice(t)) => s == t,
    }
}

proptest! {
    #[test]
    fn everything_runs_once_and_nothing_overtakes(arrivals in arrivals(), picks in proptest::collection::vec(any::<prop::sample::Index>(), 60)) {
        let mut schedule = Schedule::default();
        for (at, arrival) in arrivals.iter().enumerate() {
            match arrival {
                Arrival::Change(number, slice) => schedule.push_change(user(*number), *slice, (at, *slice)),
                Arrival::Slice(slice) => schedule.push_slice(*slice, at),
            }
        }
        let (mut running, mut done) = (Vec::new(), Vec::new());
        start(&mut schedule, &mut running);
        for pick in picks {
            if running.is_empty() {
                break;
            }
            for (at, earlier) in arrivals.iter().enumerate() {
                for (next, _, _) in &running {
                    let must_be_first = at < *next && is_ordered(earlier, &arrivals[*next]);
                    prop_assert!(!must_be_first || done.contains(&at), "{next} overtook {at}");
                }
            }
            let (at, user, slice) = running.swap_remove(pick.index(running.len()));
            match user {
                Some(user) => schedule.change_done(&user, slice),
                None => schedule.slice_done(slice),
            }
            done.push(at);
            start(&mut schedule, &mut running);
        }
        prop_assert_eq!(done.len(), arrivals.len());
        prop_assert_eq!(schedule.waiting(), 0);
        prop_assert!(schedule.users.is_empty());
    }
}
