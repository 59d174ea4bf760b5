//! Two controllers that admit into one room, also when one of them is killed.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use roomcast_runtime::config::{Database, SecretUrl};
use roomcast_store::{MysqlRooms, Rooms, rooms::SeatRequest};
use roomcast_test_servers::{MariaDb, unique};
use roomcast_types::RoomId;
use tokio::{runtime, task::JoinSet};

use super::{fresh, holders, name, new_room, now, open, raw, room, run, seats, wait_until_no_transaction};

const ROUNDS: usize = 100;
const SEATS: u32 = 50;
const JOINS: usize = 200;

/// All joins of one controller at once, in batches of this size; (requests, answers) of each batch.
fn burst(
    tasks: &mut JoinSet<roomcast_store::Result<Vec<String>>>,
    rooms: &Arc<MysqlRooms>,
    id: &RoomId,
    joins: &[SeatRequest],
    batch: usize,
) {
    for batch in joins.chunks(batch) {
        let (rooms, id, batch) = (rooms.clone(), id.clone(), batch.to_vec());
        tasks.spawn(async move {
            let admission = rooms.admit(&id, &batch, Some(new_room(SEATS)), now()).await?;
            assert!(admission.members <= u64::from(SEATS));
            let answers = batch.into_iter().zip(admission.admitted);
            Ok(answers.filter(|(_, yes)| *yes).map(|(request, _)| request.user_id.into()).collect())
        });
    }
}

/// Who was told that it has a seat.
async fn admitted(tasks: JoinSet<roomcast_store::Result<Vec<String>>>) -> BTreeSet<String> {
    tasks.join_all().await.into_iter().flat_map(|answer| answer.unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_controllers_that_admit_200_each_into_50_seats_give_exactly_50() {
    let section = fresh(MariaDb::shared()).await;
    let controllers = [Arc::new(open(&section)), Arc::new(open(&section))];
    for round in 0..ROUNDS {
        let id = room(&format!("room-{round}"));
        // As controllers batch them, all at once, and singly; of different users, and of the same ones.
        let batch = if round % 20 == 19 { 1 } else { [7, 20, 64, JOINS][round % 4] };
        let prefixes = if round % 5 == 4 { ["u", "u"] } else { ["a", "b"] };
        let mut tasks = JoinSet::new();
        for (controller, prefix) in controllers.iter().zip(prefixes) {
            burst(&mut tasks, controller, &id, &seats(prefix, JOINS), batch);
        }
        let told = admitted(tasks).await;
        assert_eq!(told.len(), SEATS as usize, "round {round}");
        assert!(holders(&controllers[0], &id).await.into_iter().eq(told), "round {round}");
    }
}

/// A controller as a process of its own would be: its tasks end with its runtime.
struct Controller {
    runtime: runtime::Runtime,
    rooms: Arc<MysqlRooms>,
}

impl Controller {
    fn start(section: &Database) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, rooms: Arc::new(open(section)) }
    }

    fn burst(&self, id: &RoomId, joins: &[SeatRequest], batch: usize) {
        let mut tasks = JoinSet::new();
        let _inside = self.runtime.enter();
        burst(&mut tasks, &self.rooms, id, joins, batch);
        tasks.detach_all();
    }
}

/// Points in time that differ from round to round and are the same in each run: up to 40 ms, which is within a burst.
fn pauses() -> impl Iterator<Item = Duration> {
    let next = |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(42_u64), next).map(|state| Duration::from_micros((state >> 33) % 40_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_killed_in_mid_burst_takes_no_seat_too_many_and_holds_up_nobody() {
    let server = MariaDb::shared();
    let section = fresh(server).await;
    let survivor = Arc::new(open(&section));
    for (round, pause) in pauses().take(ROUNDS).enumerate() {
        let id = room(&format!("room-{round}"));
        let batch = [7, 20, 64][round % 3];
        let victim = Controller::start(&section);
        victim.burst(&id, &seats("v", JOINS), batch);
        let mut tasks = JoinSet::new();
        burst(&mut tasks, &survivor, &id, &seats("s", JOINS), batch);
        tokio::time::sleep(pause).await;
        victim.runtime.shutdown_background();
        let told = admitted(tasks).await;
        // A last one, now that the killed one is certainly gone.
        assert_eq!(survivor.admit(&id, &seats("late", 1), None, now()).await.unwrap().admitted, [false]);
        let holders: BTreeSet<String> = holders(&survivor, &id).await.into_iter().collect();
        assert_eq!(holders.len(), SEATS as usize, "round {round}");
        assert!(told.is_subset(&holders), "round {round}");
    }
    wait_until_no_transaction(server, name(&section)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_killed_in_mid_burst_cost_no_seat_and_hold_up_nobody() {
    let server = MariaDb::shared();
    let section = fresh(server).await;
    let database = name(&section);
    server.run("", &format!("CREATE USER victim; GRANT ALL ON {database}.* TO victim"));
    let url = format!("mysql://victim@127.0.0.1:{}/{database}", server.port());
    let mut executioner = raw(server, "").await;
    let survivor = Arc::new(open(&section));
    let victim = Arc::new(open(&Database { url: SecretUrl::new(url), ..section.clone() }));
    for (round, pause) in pauses().take(ROUNDS / 2).enumerate() {
        let id = room(&unique("room"));
        let batch = [7, 20, 64][round % 3];
        let mut unlucky = JoinSet::new();
        burst(&mut unlucky, &victim, &id, &seats("v", JOINS), batch);
        let mut tasks = JoinSet::new();
        burst(&mut tasks, &survivor, &id, &seats("s", JOINS), batch);
        tokio::time::sleep(pause).await;
        run(&mut executioner, "KILL USER victim").await;
        let mut told = admitted(tasks).await;
        for answer in unlucky.join_all().await {
            match answer {
                Ok(users) => told.extend(users),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
        let holders: BTreeSet<String> = holders(&survivor, &id).await.into_iter().collect();
        assert_eq!(holders.len(), SEATS as usize, "round {round}");
        assert!(told.is_subset(&holders), "round {round}");
    }
    wait_until_no_transaction(server, database).await;
    super::wait_until("the victim works again", async || victim.ping().await.is_ok()).await;
}
