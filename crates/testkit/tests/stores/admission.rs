//! Two controllers give out the seats of one room at the same time.

use std::sync::Arc;

use roomcast_client::Controller;
use roomcast_proto::pubsub::{CreateRoomRequest, JoinRoomRequest};
use roomcast_testkit::{Cluster, Servers};
use tokio::task::JoinSet;

const SEATS: usize = 50;

#[tokio::test]
async fn two_controllers_never_give_out_more_seats_than_there_are() {
    let cluster = Cluster::builder().nodes(0).push_managers(0).controllers(2);
    let cluster = cluster.on(Servers::start().await).start().await;
    let controllers = [0, 1].map(|index| Arc::new(cluster.controller_client(index)));
    for round in 0..100 {
        let room = format!("room-{round}");
        create(&controllers[0], &room).await;
        let admitted = storm(&controllers, &room).await;
        assert_eq!(admitted, SEATS, "{room}");
        assert_eq!(seats(&cluster, &room), (SEATS, SEATS), "{room}");
    }
    cluster.finish().await;
}

// Looks at the record while the storm goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_dies_in_mid_burst_costs_no_seat_and_gives_none_away() {
    let mut cluster = Cluster::builder().nodes(0).push_managers(0).controllers(1);
    cluster = cluster.set("room.rejoin_grace=1h");
    let mut cluster = cluster.on(Servers::start().await).start().await;
    for round in 0..10 {
        let victim = cluster.start_controller().await;
        let controllers = [0, victim].map(|index| Arc::new(cluster.controller_client(index)));
        let room = format!("room-{round}");
        create(&controllers[0], &room).await;
        let storm = tokio::spawn({
            let (controllers, room) = (controllers.clone(), room.clone());
            async move { storm(&controllers, &room).await }
        });
        // At a different place of the burst each time.
        while seats(&cluster, &room).1 < round * 5 {}
        cluster.kill_controller(victim);
        let admitted = storm.await.unwrap();
        let (rows, counted) = seats(&cluster, &room);
        assert_eq!(rows, counted, "{room}: the count is that of the seats");
        assert_eq!(rows, SEATS, "{room}: the survivor fills it");
        assert!(admitted <= SEATS, "{room}: a seat of the dead may have lost its answer, no more");
    }
    cluster.finish().await;
}

async fn create(controller: &Controller, room: &str) {
    let max_users = Some(SEATS as u32);
    let request = CreateRoomRequest { room_id: room.to_owned(), max_users, ..Default::default() };
    controller.create_room(request).await.unwrap();
}

/// 200 users ask each controller at once; how many were admitted.
async fn storm(controllers: &[Arc<Controller>; 2], room: &str) -> usize {
    let mut joins = JoinSet::new();
    for number in 0..400 {
        let (controller, room_id) = (controllers[number % 2].clone(), room.to_owned());
        let request = JoinRoomRequest { room_id, user_id: format!("user-{number}"), ..Default::default() };
        joins.spawn(async move { controller.join_room(request).await.is_ok() });
    }
    joins.join_all().await.into_iter().filter(|is_admitted| *is_admitted).count()
}

/// Seats in the record: (rows, as the room counts them).
fn seats(cluster: &Cluster, room: &str) -> (usize, usize) {
    let found = cluster.servers().query(&format!(
        "SELECT COUNT(*) FROM room_users WHERE room_id = '{room}' AND left_at IS NULL \
         UNION ALL SELECT members FROM rooms WHERE room_id = '{room}'"
    ));
    (found[0].parse().unwrap(), found[1].parse().unwrap())
}
