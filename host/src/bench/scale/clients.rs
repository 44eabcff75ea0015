// SPDX-License-Identifier: MIT OR Apache-2.0

//! Clients at a time: a server in host mode, in a process of its own and in its sandbox, and drivers of rings in threads of this one,
//! through the same sockets as a client's QEMU. Each driver has some requests in flight.
//!
//! What a request costs is the processor time of the server's threads, by the kernel's account: their polling is in it, and their
//! waiting for each other where they spend time on it. Requests a second are those of all clients together; drivers and server share the machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Dimension, Extent, MICROSECONDS};
use crate::bench::core::peer::{Peer, send};
use crate::bench::core::requests::OverRing;
use crate::bench::core::tree;
use crate::bench::core::workload::{Script, Workload};
use crate::bench::process::processor_time;
use crate::front_end::{self, FrontEnd};
use crate::serve::Options;
use crate::serve::process::ServeProcess;
use crate::vhost_user::Socket;

/// What is asked for.
const OPERATIONS: [&str; 3] = ["Tgetattr", "Tread 4 KiB", "Twrite 4 KiB"];

/// Requests that each client has in flight.
const IN_FLIGHT: usize = 8;

/// How long each is asked for in each round.
const WINDOW: Duration = Duration::from_millis(200);

/// Measures all numbers of clients.
///
/// # Errors
/// If the server does not start, or gives a wrong answer.
pub fn measure(extent: Extent) -> Result<Dimension> {
    let sizes = extent.clients;
    let (directory, image) = (tree::directory()?, tree::image()?);
    let most = usize::try_from(sizes.iter().copied().max().unwrap_or(1))?;
    let paths: Vec<PathBuf> =
        (0..most).map(|number| directory.path().join(format!("socket-{number}"))).collect();
    let sockets = paths.iter().map(|path| Socket { path: path.clone(), tag: "bench".to_owned() });
    let options = Options::new(image.path(), sockets.collect());
    let server = ServeProcess::start(&std::env::current_exe()?, &options, "warn")?;
    // A front end that is dropped takes its client with it.
    let mut clients: Vec<(FrontEnd, OverRing)> = Vec::new();
    for path in &paths {
        let mut front_end = FrontEnd::connect(path, front_end::Options::default())?;
        let client = OverRing::new("host mode", front_end.start()?)?;
        clients.push((front_end, client));
    }
    let mut dimension = Dimension::new("clients", "clients at a time, each with 8 requests in flight", sizes);
    for round in 0..extent.rounds {
        for (place, size) in sizes.iter().enumerate() {
            let mut busy: Vec<&mut OverRing> =
                clients.iter_mut().take(usize::try_from(*size)?).map(|(_, client)| client).collect();
            for operation in OPERATIONS {
                let of = Workload::named(operation)?;
                let script = (of.script)(of, IN_FLIGHT);
                let (rate, cost) =
                    ask(&mut busy, &script, server.process_id()).with_context(|| operation.to_owned())?;
                dimension
                    .sample(&format!("{operation}: the server's time, with its polling"), MICROSECONDS, place)
                    .add(cost);
                dimension.sample(&format!("{operation}: of all clients"), "/s", place).add(rate);
            }
        }
        eprintln!("skerry: scale: clients, round {} of {}", round + 1, extent.rounds);
    }
    drop(clients);
    server.shut_down()?;
    Ok(dimension)
}

/// Has all of them ask at the same time. Returns requests a second, and the microseconds of a processor that the process `server` took
/// for each.
fn ask(clients: &mut [&mut OverRing], script: &Script, server: u32) -> Result<(f64, f64)> {
    for client in &mut *clients {
        send(*client, &script.setup)?;
        client.load(&script.steps)?;
    }
    let before = processor_time(server)?;
    let begin = Instant::now();
    let requests = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || -> Result<u64> {
                    let mut cycles = 0;
                    loop {
                        (0..script.steps.len()).try_for_each(|step| client.exchange(step))?;
                        cycles += 1;
                        if begin.elapsed() >= WINDOW {
                            return Ok(cycles * script.operations);
                        }
                    }
                })
            })
            .collect();
        let counts = threads.into_iter().map(|thread| thread.join().expect("a driver that does not panic"));
        counts.sum::<Result<u64>>()
    })? as f64;
    let elapsed = begin.elapsed().as_secs_f64();
    let took = processor_time(server)?.saturating_sub(before).as_secs_f64();
    for client in &mut *clients {
        send(*client, &script.teardown)?;
    }
    Ok((requests / elapsed, 1e6 * took / requests))
}
