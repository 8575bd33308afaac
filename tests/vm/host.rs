//! The host itself, before any agent: what all other tests stand on.

use multibond_testbed::{Guest, Nic, eventually};

use crate::{
    by_hand::{ALPHA, PATIENCE, device, log_in, sessions, until_paths},
    writer::Writer,
};

/// Logs in through both fabrics: two sessions, and two LUNs with two paths each.
async fn connected(name: &str) -> Guest {
    let guest = Guest::start(name).await.unwrap();
    log_in(&guest, ALPHA, "10.0.101.1:3260", "san1").await;
    log_in(&guest, ALPHA, "10.0.102.1:3260", "san2").await;
    until_paths(&guest, 4, 0).await;
    guest
}

#[tokio::test]
async fn the_guest_answers_with_output_error_and_exit_code() {
    let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let guest = Guest::start("answers").await.unwrap();
    let output = guest.run("echo said; echo wrong >&2; exit 7").await.unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(7), "said\n", "wrong\n"));
    assert_eq!(guest.run_ok("hostname").await.unwrap(), "answers\n");

    let seconds: u64 = guest.run_ok("date +%s").await.unwrap().trim().parse().unwrap();
    let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((before..=after).contains(&seconds), "the guest's clock says {seconds}, not {before} to {after}");

    let file = std::env::current_exe().unwrap();
    guest.copy(&file, "/root/test").await.unwrap();
    guest.run_ok("test -x /root/test").await.unwrap();
    let digest = guest.run_ok("sha256sum </root/test").await.unwrap();
    assert!(digest.starts_with(&sha256(&file)), "{digest}");
}

#[tokio::test]
async fn commands_do_not_wait_for_each_other() {
    let guest = Guest::start("at-once").await.unwrap();
    let (first, second) = tokio::join!(guest.run_ok("mkfifo /tmp/a; cat /tmp/a"), async {
        eventually("the fifo is there", PATIENCE, async || guest.run_ok("test -p /tmp/a").await).await;
        guest.run_ok("echo word >/tmp/a").await
    });
    assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("word\n", ""));
}

#[tokio::test]
async fn a_target_is_one_map_for_each_lun_through_both_fabrics_and_a_pulled_cable_fails_its_paths_until_it_is_back() {
    let guest = connected("fabrics").await;
    let expected =
        ["san1 LOGGED_IN 10.0.101.1", "san2 LOGGED_IN 10.0.102.1"].map(|path| format!("hand.{path} {ALPHA}"));
    assert_eq!(sessions(&guest).await, expected);
    let maps = guest.run_ok("multipathd show maps raw format '%w %N'").await.unwrap();
    assert_eq!(maps.lines().filter(|map| map.trim_end().ends_with(" 2")).count(), 2, "{maps}");

    guest.set_link(Nic::San2, false).await.unwrap();
    assert_eq!(guest.run("cat /sys/class/net/san2/carrier").await.unwrap().stdout, "0\n");
    until_paths(&guest, 2, 2).await;
    guest.set_link(Nic::San2, true).await.unwrap();
    until_paths(&guest, 4, 0).await;
}

#[tokio::test]
async fn ipv6_portals_and_targets_with_other_kinds_of_names_are_reached() {
    let guest = Guest::start("names").await.unwrap();
    for (target, portal) in [
        (ALPHA, "[fd00:101::1]:3260"),
        ("eui.02004567a425678d", "10.0.101.2:3260"),
        ("naa.52004567ba64678d", "[fd00:101::2]:3260"),
    ] {
        log_in(&guest, target, portal, "san1").await;
    }
    until_paths(&guest, 4, 0).await;
}

#[tokio::test]
async fn a_portal_that_drops_packets_fails_its_paths_alone_and_the_writer_goes_on_and_notices_a_wrong_byte() {
    let guest = connected("writer").await;
    let device = device(&guest, 2).await;
    let writer = Writer::start(&guest, &device).await;
    guest.drop_packets_to("10.0.101.1").await.unwrap();
    until_paths(&guest, 2, 2).await;
    writer.until_passes(2).await;
    guest.drop_nothing().await.unwrap();
    until_paths(&guest, 4, 0).await;
    writer.finish().await;

    guest
        .spawn(
            "wrong",
            &format!("while sleep 0.01; do dd if=/dev/zero of={device} bs=4k count=1 seek=17 oflag=direct; done"),
        )
        .await
        .unwrap();
    let output = guest.run(&format!("timeout 60 writer {device}")).await.unwrap();
    assert!(output.stdout.contains("differ"), "{output:?}");
    assert_eq!(output.code, Some(1), "{output:?}");
}

#[tokio::test]
async fn a_power_cut_keeps_the_records_and_loses_the_sessions() {
    let mut guest = connected("power").await;
    guest.run_ok("sync").await.unwrap();
    guest.power_cycle().await.unwrap();
    assert_eq!(sessions(&guest).await, Vec::<String>::new());
    let records = guest.run_ok("iscsiadm -m node").await.unwrap();
    assert_eq!(records.lines().count(), 2, "{records}");
}

fn sha256(file: &std::path::Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(std::fs::read(file).unwrap());
    digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
