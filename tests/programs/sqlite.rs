// SPDX-License-Identifier: MIT OR Apache-2.0

//! What sqlite has committed when the service VM is killed is in its databases, whole, when they are served again.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use skerry_host::client_vm::{Cache, ClientVm, MOUNT_LIMIT, Streams};

use super::Bench;
use super::support::{kept, length};

/// How long the databases may take to be made.
const BEGIN_LIMIT: Duration = Duration::from_secs(180);

/// The databases that hammer.sh is to make with a cache: without one, the kernel maps nothing that can be shared and written.
fn databases(cache: Cache) -> &'static str {
    match cache {
        Cache::None => "exclusive rollback",
        Cache::Mmap | Cache::Loose => "shared exclusive rollback",
    }
}

/// The last number that each writer of each database said it has committed.
type Committed = BTreeMap<(String, u32), u64>;

/// Each writer of `databases`.
fn writers(databases: &str) -> impl Iterator<Item = (String, u32)> {
    let of = |database: &str| if database == "shared" { 1..=2 } else { 1..=1 };
    databases.split(' ').flat_map(move |database| of(database).map(|writer| (database.to_owned(), writer)))
}

/// Reads what hammer.sh says to its end, and tells `begun` when as many writers as that have committed something.
fn committed(said: PipeReader, writers: usize, begun: &Sender<()>) -> Committed {
    let mut all = Committed::new();
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["committed", database, writer, number] = words[..] {
            let (writer, number) = (writer.parse().unwrap(), number.parse().unwrap());
            let last = all.insert((database.to_owned(), writer), number).unwrap_or(0);
            assert_eq!(number, last + 1, "{line}");
            if all.len() == writers {
                // Heard once.
                let _ = begun.send(());
            }
        }
    }
    all
}

/// Has a client hammer databases until the service VM is killed, `after` all have begun, and gives back what was committed.
fn hammered_until_killed(bench: &Bench, cache: Cache, after: Duration) -> Committed {
    let (bridge, socket) = bench.served();
    let (said, stdout) = io::pipe().unwrap();
    let streams =
        Streams { stdin: Box::new(io::empty()), stdout: Box::new(stdout), stderr: Box::new(io::stderr()) };
    let script = format!("hammer.sh {}", databases(cache));
    let mut client = ClientVm::start(&bench.client(socket, cache, &script), streams).unwrap();
    client.wait_until_mounted(MOUNT_LIMIT).unwrap();
    let service = Pid::from_raw(bridge.service_process().cast_signed()).unwrap();
    let (sender, begun) = channel();
    let writers = writers(databases(cache)).count();
    let said = std::thread::spawn(move || committed(said, writers, &sender));
    begun.recv_timeout(BEGIN_LIMIT).expect("every writer commits something");
    std::thread::sleep(after);
    kill_process(service, Signal::KILL).unwrap();
    // What was said before is on its way out of the client.
    std::thread::sleep(Duration::from_millis(500));
    client.kill();
    drop((client, bridge));
    said.join().unwrap()
}

/// Of a judgement, the lines about `database` that begin with `what`, without these two words.
fn lines<'a>(said: &'a str, what: &str, database: &str) -> Vec<&'a str> {
    let begin = format!("{what} {database} ");
    said.lines().filter_map(|line| line.strip_prefix(&begin)).collect()
}

#[test]
fn what_sqlite_has_committed_survives_the_kill_of_the_service_vm() {
    let rounds = length::kills(2);
    let mut all = 0;
    for round in 0..rounds {
        // Without time, there are no rounds for the third.
        let cache = [Cache::Mmap, Cache::None, Cache::Loose][round % if length::is_long() { 3 } else { 2 }];
        let bench = Bench::new();
        // Another moment each time.
        let after = Duration::from_micros(2_000_000 + round as u64 * 611_953 % 3_000_000);
        let committed = hammered_until_killed(&bench, cache, after);
        kept::keep("programs", &format!("killed-{round}"), &bench.volume());
        let said = bench.run(cache, &format!("judge.sh {}", databases(cache)));
        for database in databases(cache).split(' ') {
            assert_eq!(lines(&said, "integrity", database), ["ok"], "{said}");
            assert_eq!(lines(&said, "torn", database), ["0"], "{said}");
            let journal = if database == "rollback" { "delete" } else { "wal" };
            assert_eq!(lines(&said, "journal", database), [journal], "{said}");
            let mut total = 0;
            for (database, writer) in writers(database) {
                let numbered = lines(&said, &format!("numbered {database}"), &writer.to_string());
                let last = committed[&(database, writer)];
                // One may have been committed and not told.
                let found = [last, last + 1].into_iter().find(|last| numbered == [format!("{last} {last}")]);
                total += found.unwrap_or_else(|| panic!("{last} committed, {numbered:?} found: {said}"));
            }
            let balances = [format!("from -{total}"), format!("to {total}")];
            assert_eq!(lines(&said, "balance", database), balances, "{said}");
            println!("round {round}, cache={cache:?}: {total} transactions of the database {database}");
            all += total;
        }
    }
    println!("shown: {rounds} kills under sqlite, {all} transactions, each that was committed is there");
}
