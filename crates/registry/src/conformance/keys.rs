//! Rules of keys.

#![allow(missing_docs, reason = "a rule's name is its contract")]

use roomcast_types::Incarnation;
use tokio::task::JoinSet;

use super::{Backend, node, registration};
use crate::{Expect, Put, Registration, Role, State};

pub async fn a_registration_reads_as_written(backend: &Backend) {
    let lease = backend.long_lease().await;
    for state in [State::Starting, State::Ready, State::Draining] {
        let written = Registration { state, ..node(state.as_str()) };
        assert_eq!(backend.get(&written).await, None);
        assert_eq!(backend.put(&written, lease, Expect::Absent).await, Put::Written);
        assert_eq!(backend.get(&written).await, Some(written));
    }
}

pub async fn a_list_is_in_order_of_id(backend: &Backend) {
    let lease = backend.long_lease().await;
    assert_eq!(backend.registry.list(Role::ConnectNode).await.unwrap(), []);
    let mut written: Vec<Registration> = ["b", "a", "c-10", "c-9", "B"].map(node).into();
    for registration in &written {
        backend.put(registration, lease, Expect::Absent).await;
    }
    written.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(backend.registry.list(Role::ConnectNode).await.unwrap(), written);
}

pub async fn roles_have_their_own_keys(backend: &Backend) {
    let lease = backend.long_lease().await;
    let roles = [Role::ConnectNode, Role::PushManager, Role::ControllerManager];
    let written = roles.map(|role| registration(role, "same"));
    for registration in &written {
        assert_eq!(backend.put(registration, lease, Expect::Absent).await, Put::Written);
    }
    for registration in written {
        let listed = backend.registry.list(registration.role).await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&registration));
        assert_eq!(backend.get(&registration).await, Some(registration));
    }
}

pub async fn ids_that_look_alike_are_different_keys(backend: &Backend) {
    let lease = backend.long_lease().await;
    let mut written =
        ["n", "N", "é", "e", "n ", "7", "07", "n/a", "n/", "n/a/b", "%2F", "/", "..", "😀"].map(node);
    for registration in &written {
        assert_eq!(backend.put(registration, lease, Expect::Absent).await, Put::Written, "{registration:?}");
    }
    for registration in &written {
        assert_eq!(backend.get(registration).await.as_ref(), Some(registration));
    }
    written.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(backend.registry.list(Role::ConnectNode).await.unwrap(), written);
}

pub async fn a_key_that_is_held_is_not_absent(backend: &Backend) {
    let lease = backend.long_lease().await;
    let (holder, late) = (node("n"), node("n"));
    backend.put(&holder, lease, Expect::Absent).await;
    for registration in [&late, &holder] {
        let put = backend.put(registration, lease, Expect::Absent).await;
        assert_eq!(put, Put::Conflict(Some(holder.clone())));
    }
    assert_eq!(backend.get(&late).await, Some(holder));
}

pub async fn a_key_changes_hands_only_from_the_holder_expected(backend: &Backend) {
    let lease = backend.long_lease().await;
    let (first, second) = (node("n"), node("n"));
    let put = backend.put(&second, lease, Expect::HeldBy(first.incarnation)).await;
    assert_eq!(put, Put::Conflict(None));
    backend.put(&first, lease, Expect::Absent).await;
    let put = backend.put(&second, lease, Expect::HeldBy(Incarnation::random())).await;
    assert_eq!(put, Put::Conflict(Some(first.clone())));
    let ready = Registration { state: State::Ready, ..first.clone() };
    assert_eq!(backend.put(&ready, lease, Expect::HeldBy(first.incarnation)).await, Put::Written);
    assert_eq!(backend.put(&second, lease, Expect::HeldBy(first.incarnation)).await, Put::Written);
    assert_eq!(backend.get(&first).await, Some(second.clone()));
    let put = backend.put(&first, lease, Expect::HeldBy(first.incarnation)).await;
    assert_eq!(put, Put::Conflict(Some(second)));
}

pub async fn racing_writes_have_one_winner(backend: &Backend) {
    let lease = backend.long_lease().await;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let registry = backend.registry.clone();
        let registration = node("n");
        tasks.spawn(async move {
            let put = registry.put(&registration, lease, Expect::Absent).await.unwrap();
            (registration, put)
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(|(_, put)| *put == Put::Written);
    let [(winner, _)] = &won[..] else { panic!("{} winners", won.len()) };
    assert!(lost.iter().all(|(_, put)| *put == Put::Conflict(Some(winner.clone()))));
    assert_eq!(backend.get(winner).await.as_ref(), Some(winner));
}

pub async fn only_its_holder_removes_a_key(backend: &Backend) {
    let lease = backend.long_lease().await;
    let holder = node("n");
    let remove = async |incarnation| {
        backend.registry.remove(Role::ConnectNode, &holder.id, incarnation).await.unwrap()
    };
    assert!(!remove(holder.incarnation).await);
    backend.put(&holder, lease, Expect::Absent).await;
    assert!(!remove(Incarnation::random()).await);
    assert_eq!(backend.get(&holder).await, Some(holder.clone()));
    assert!(remove(holder.incarnation).await);
    assert_eq!(backend.get(&holder).await, None);
    assert!(!remove(holder.incarnation).await);
    assert_eq!(backend.put(&holder, lease, Expect::Absent).await, Put::Written, "the lease goes on");
}
