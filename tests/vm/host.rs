//! The test host itself, without an agent. All other tests rely on it.

use multibond_testbed::{Guest, Nic, eventually};

use crate::{
    by_hand::{ALPHA, PATIENCE, device, log_in, sessions, until_paths},
    writer::Writer,
};

/// The tests of the test host, all on one host: each step leaves it in the state that the next one needs.
#[tokio::test]
async fn the_test_host_runs_commands_reaches_its_targets_and_injects_faults() {
    let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let mut guest = Guest::start("answers").await.unwrap();
    commands_answer_with_output_error_and_code(&guest).await;
    the_clock_is_right(&guest, before).await;
    a_copied_file_is_complete_and_executable(&guest).await;
    commands_do_not_wait_for_each_other(&guest).await;

    log_in(&guest, ALPHA, "10.0.101.1:3260", "san1").await;
    log_in(&guest, ALPHA, "10.0.102.1:3260", "san2").await;
    until_paths(&guest, 4, 0).await;
    a_target_is_one_map_per_lun_and_a_pulled_cable_fails_its_paths(&guest).await;
    a_portal_that_drops_packets_fails_its_paths_alone(&guest).await;
    the_writer_notices_a_wrong_byte(&guest).await;
    a_power_cut_keeps_records_and_loses_sessions(&mut guest).await;
    ipv6_portals_and_all_kinds_of_target_names_are_reached(&guest).await;
}

async fn commands_answer_with_output_error_and_code(guest: &Guest) {
    let output = guest.run("echo said; echo wrong >&2; exit 7").await.unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(7), "said\n", "wrong\n"));
    assert_eq!(guest.run_ok("hostname").await.unwrap(), "answers\n");
}

async fn the_clock_is_right(guest: &Guest, before: u64) {
    let seconds: u64 = guest.run_ok("date +%s").await.unwrap().trim().parse().unwrap();
    let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((before..=after).contains(&seconds), "the guest's clock says {seconds}, not {before} to {after}");
}

async fn a_copied_file_is_complete_and_executable(guest: &Guest) {
    let file = std::env::current_exe().unwrap();
    guest.copy(&file, "/root/test").await.unwrap();
    guest.run_ok("test -x /root/test").await.unwrap();
    let digest = guest.run_ok("sha256sum </root/test").await.unwrap();
    assert!(digest.starts_with(&sha256(&file)), "{digest}");
}

async fn commands_do_not_wait_for_each_other(guest: &Guest) {
    let (first, second) = tokio::join!(guest.run_ok("mkfifo /tmp/a; cat /tmp/a"), async {
        eventually("the fifo is there", PATIENCE, async || guest.run_ok("test -p /tmp/a").await).await;
        guest.run_ok("echo word >/tmp/a").await
    });
    assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("word\n", ""));
}

async fn a_target_is_one_map_per_lun_and_a_pulled_cable_fails_its_paths(guest: &Guest) {
    let expected =
        ["san1 LOGGED_IN 10.0.101.1", "san2 LOGGED_IN 10.0.102.1"].map(|path| format!("hand.{path} {ALPHA}"));
    assert_eq!(sessions(guest).await, expected);
    let maps = guest.run_ok("multipathd show maps raw format '%w %N'").await.unwrap();
    assert_eq!(maps.lines().filter(|map| map.trim_end().ends_with(" 2")).count(), 2, "{maps}");

    guest.set_link(Nic::San2, false).await.unwrap();
    assert_eq!(guest.run("cat /sys/class/net/san2/carrier").await.unwrap().stdout, "0\n");
    until_paths(guest, 2, 2).await;
    guest.set_link(Nic::San2, true).await.unwrap();
    until_paths(guest, 4, 0).await;
}

async fn a_portal_that_drops_packets_fails_its_paths_alone(guest: &Guest) {
    let writer = Writer::start(guest, &device(guest, 2).await).await;
    guest.drop_packets_to("10.0.101.1").await.unwrap();
    until_paths(guest, 2, 2).await;
    writer.until_passes(2).await;
    guest.drop_nothing().await.unwrap();
    until_paths(guest, 4, 0).await;
    writer.finish().await;
}

async fn the_writer_notices_a_wrong_byte(guest: &Guest) {
    let device = device(guest, 2).await;
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

async fn a_power_cut_keeps_records_and_loses_sessions(guest: &mut Guest) {
    guest.run_ok("sync").await.unwrap();
    guest.power_cycle().await.unwrap();
    assert_eq!(sessions(guest).await, Vec::<String>::new());
    let records = guest.run_ok("iscsiadm -m node").await.unwrap();
    assert_eq!(records.lines().count(), 2, "{records}");
}

async fn ipv6_portals_and_all_kinds_of_target_names_are_reached(guest: &Guest) {
    for (target, portal) in [
        (ALPHA, "[fd00:101::1]:3260"),
        ("eui.02004567a425678d", "10.0.101.2:3260"),
        ("naa.52004567ba64678d", "[fd00:101::2]:3260"),
    ] {
        log_in(guest, target, portal, "san1").await;
    }
    until_paths(guest, 4, 0).await;
}

fn sha256(file: &std::path::Path) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(std::fs::read(file).unwrap());
    digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
