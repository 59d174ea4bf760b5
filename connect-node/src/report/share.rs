//! Which controller each node reports to, so that all have as many as each other: worked out by every node alone, from
//! the same lists.
//!
//! A node scores each controller (highest random weight: Thaler and Ravishankar, 1998), so that a list that changed
//! moves few nodes. Scores alone spread seven nodes over two controllers as coins fall; so places are shared out evenly
//! first, and a node takes the controller that it scores highest among those with a place left for it.

use std::cmp::Reverse;

/// Controllers in the order in which this node turns to them. Both lists may be in any order; they name each node and
/// each controller once, except that `nodes` may lack this one.
pub fn order<'a>(own: &str, nodes: &[&str], controllers: &[&'a str]) -> Vec<&'a str> {
    let mut order = by_score(own, controllers);
    if let Some(first) = first(own, nodes, controllers) {
        order.retain(|controller| *controller != first);
        order.insert(0, first);
    }
    order
}

fn first<'a>(own: &str, nodes: &[&str], controllers: &[&'a str]) -> Option<&'a str> {
    let mut nodes: Vec<&str> = nodes.iter().copied().filter(|node| *node != own).chain([own]).collect();
    nodes.sort_unstable();
    let each = nodes.len() / controllers.len().max(1);
    let mut one_more = nodes.len() - each * controllers.len();
    let mut taken = vec![0; controllers.len()];
    let mut controllers = controllers.to_vec();
    controllers.sort_unstable();
    for node in nodes {
        let has_place = |controller: &&str| {
            let place = controllers.iter().position(|known| known == controller);
            place.filter(|place| taken[*place] < each || (taken[*place] == each && one_more > 0))
        };
        let ranked = by_score(node, &controllers);
        let (controller, place) =
            ranked.iter().find_map(|controller| Some((*controller, has_place(controller)?)))?;
        if node == own {
            return Some(controller);
        }
        one_more -= usize::from(taken[place] == each);
        taken[place] += 1;
    }
    None
}

fn by_score<'a>(node: &str, controllers: &[&'a str]) -> Vec<&'a str> {
    let mut ranked = controllers.to_vec();
    ranked.sort_by_cached_key(|controller| Reverse((score(node, controller), *controller)));
    ranked
}

/// FNV-1a, the same in every build, finished as MurmurHash3 does: FNV alone gives names that differ in their last
/// letter nearly the same number.
fn score(node: &str, controller: &str) -> u64 {
    let bytes = node.bytes().chain([0]).chain(controller.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn names(prefix: &str, count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("{prefix}-{number}")).collect()
    }

    fn refs(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }

    fn homes(nodes: &[String], controllers: &[String]) -> HashMap<String, String> {
        let home = |node: &String| {
            let order = order(node, &refs(nodes), &refs(controllers));
            (node.clone(), order[0].to_owned())
        };
        nodes.iter().map(home).collect()
    }

    #[test]
    fn every_controller_has_as_many_nodes_as_the_others_or_one_more() {
        for controllers in 1..=5 {
            for nodes in 0..=40 {
                let (nodes, controllers) = (names("connect-node", nodes), names("controller", controllers));
                let homes = homes(&nodes, &controllers);
                for controller in &controllers {
                    let count = homes.values().filter(|home| *home == controller).count();
                    let each = nodes.len() / controllers.len();
                    assert!(
                        count == each || (count == each + 1 && nodes.len() % controllers.len() > 0),
                        "{homes:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_order_has_every_controller_once_and_depends_on_no_order_of_the_lists() {
        let (mut nodes, mut controllers) = (names("connect-node", 9), names("controller", 4));
        let before = order("connect-node-3", &refs(&nodes), &refs(&controllers)).join(" ");
        nodes.reverse();
        controllers.rotate_left(1);
        assert_eq!(order("connect-node-3", &refs(&nodes), &refs(&controllers)).join(" "), before);
        let mut sorted: Vec<&str> = before.split(' ').collect();
        sorted.sort_unstable();
        controllers.sort_unstable();
        assert_eq!(sorted, refs(&controllers));
        nodes.retain(|node| node != "connect-node-3");
        let unlisted = order("connect-node-3", &refs(&nodes), &refs(&controllers)).join(" ");
        assert_eq!(unlisted, before, "a node counts itself although it is not listed yet");
        assert_eq!(order("connect-node-3", &refs(&nodes), &[]), [""; 0]);
    }

    #[test]
    fn a_list_that_changed_moves_few_nodes() {
        let (nodes, controllers) = (names("connect-node", 60), names("controller", 3));
        let before = homes(&nodes, &controllers);
        let moved = |after: &HashMap<String, String>| {
            before.iter().filter(|(node, home)| after.get(*node).is_some_and(|now| now != *home)).count()
        };
        let one_more = moved(&homes(&names("connect-node", 61), &controllers));
        assert!(one_more <= 6, "{one_more} of 60 moved for one more node");
        let without = moved(&homes(&nodes, &controllers[..2]));
        assert!((20..=30).contains(&without), "{without} of 60 moved for one controller of three");
    }

    #[test]
    fn the_nodes_of_a_silent_controller_go_to_different_ones() {
        let (nodes, controllers) = (names("connect-node", 60), names("controller", 4));
        let mut next: HashMap<String, usize> = HashMap::new();
        for node in &nodes {
            let order = order(node, &refs(&nodes), &refs(&controllers));
            if order[0] == "controller-1" {
                *next.entry(order[1].to_owned()).or_default() += 1;
            }
        }
        assert_eq!(next.len(), 3, "{next:?}");
    }
}
