//! Looking changes nothing: whatever is asked, of whatever state.

use super::story::Story;
use super::world::{EAST, WEST, person};
use cryptorun_core::promotion::PromotionId;

/// All that can be asked, the impossible too.
async fn look_at_everything(story: &Story) -> usize {
    let mut looks = 0;
    let before = story.world.log.machine();
    for kind in [None, Some("switchover"), Some("failover"), Some("emergency")] {
        for scope in [("warm", "global"), ("warm", "eu"), ("cold", "global")] {
            for to in [EAST, WEST, "eu-west-1", "us-east", "nowhere"] {
                for from in [None, Some(EAST), Some(WEST)] {
                    for who in ["ana", "dan", "eve"] {
                        let body = serde_json::json!({
                            "kind": kind, "tier": scope.0, "group": scope.1, "to": to, "from": from,
                        });
                        let body = body.to_string();
                        let answer =
                            story.world.send(&person(who), "POST", "/v1/promotions", &body).await;
                        assert!(answer.status().as_u16() < 500, "{body}");
                        looks += usize::from(answer.status().as_u16() == 200);
                    }
                }
            }
        }
    }
    for to in [EAST, WEST, "eu-west-1"] {
        let path = format!("/v1/explain?tier=warm&target={to}");
        let answer = story.world.send(&person("dan"), "GET", &path, "").await;
        looks += usize::from(answer.status().as_u16() == 200);
    }
    assert!(story.world.log.machine() == before, "every record, and the index");
    looks
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_of_anything_changes_nothing() {
    let mut story = Story::start().await;
    assert!(look_at_everything(&story).await > 50, "before anybody holds it");
    for _ in 0..10 {
        story.second().await;
    }
    assert!(look_at_everything(&story).await > 50, "at rest");
    story.silent = Some(EAST);
    for _ in 0..40 {
        story.second().await;
    }
    assert!(
        look_at_everything(&story).await > 50,
        "its holder is gone, and it is too early to ask"
    );
    for _ in 0..35 {
        story.second().await;
    }
    assert!(look_at_everything(&story).await > 50, "a request waits");
    story.two_agree(PromotionId(1)).await;
    assert!(look_at_everything(&story).await > 50, "it is on its way");
}
