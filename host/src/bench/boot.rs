// SPDX-License-Identifier: MIT OR Apache-2.0

//! `bench boot`: from QEMU's start to the first 9P answer, in parts; how large the image is, and how much memory it touches.
//!
//! The host's clock tells when QEMU was started, when its machine was there (it speaks QMP then), and when the answer was.
//! The image's clock tells how long the image took from its first instruction to its first Rust function, and from there until it
//! was ready. Its uptime, asked for over the ring, joins the two clocks: to half of the time that the quickest such request took.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use skerry::wire::{Fid, OpenFlags};

use super::chart::Bars;
use super::process::processor_time;
use super::report::{Table, draw, number, reached, write_json};
use super::statistics::Sample;
use crate::client::{Client, RingTransport};
use crate::image_file::ImageFile;
use crate::service_vm::{Options, ServiceVm, default_image};
use crate::volume_image;

/// Starts that are measured, and of a quick run.
pub const FULL: usize = 15;
/// Enough to see that it works.
pub const QUICK: usize = 2;

/// Bytes of the volume.
const VOLUME: u64 = 64 << 20;

/// What is to be reached: of an image, of a service VM's memory, and of a start, in milliseconds.
const LARGEST_IMAGE: u64 = 1 << 20;
const MOST_MEMORY: u64 = 32 << 20;
const LONGEST_START: f64 = 200.0;

/// Requests for the uptime, of which the quickest counts.
const LOOKS: usize = 20;

/// The name of the service VM's RAM, where its use is counted.
const RAM: &str = "counted-ram";

const PARTS: [&str; 7] = [
    "QEMU: exec to a machine",
    "firmware, to the image's entry",
    "entry to the first Rust function",
    "from there to ready",
    "ready to the first 9P answer",
    "all: exec to the first 9P answer",
    "processor time of QEMU until then",
];

/// Starts it `starts` times, and prints.
///
/// # Errors
/// If there is no image or QEMU, or a service VM does not start.
pub fn run(starts: usize) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("skerry-bench-").tempdir()?;
    let volume = directory.path().join("volume.ext4");
    volume_image::format(&volume, VOLUME, [""; 0])?;
    let options = Options::new(&volume)?;
    let mut parts = PARTS.map(|_| Sample::default());
    for start in 0..starts {
        for (sample, time) in parts.iter_mut().zip(measure(&options)?) {
            sample.add(1000.0 * time);
        }
        eprintln!("skerry: start {} of {starts}", start + 1);
    }
    report_starts(&parts)?;
    let image = ImageFile::read(&default_image()?)?;
    let (loaded, file) = (image.loaded()?, image.bytes().len());
    let memory = memory(&options)?;
    report_sizes(loaded, file, &memory, &options);
    let total = parts[WHOLE].median().unwrap_or(f64::NAN);
    println!(
        "exec to the first 9P answer: {} ms (target {LONGEST_START} ms: {})",
        number(total),
        reached(total <= LONGEST_START)
    );
    let parts: Vec<_> = PARTS
        .iter()
        .zip(&parts)
        .map(|(name, sample)| json!({ "part": name, "milliseconds": sample.median(), "spread": sample.spread() }))
        .collect();
    let figures = json!({
        "starts": starts, "parts": parts, "image": { "loaded": loaded, "file": file },
        "ram": { "configured": u64::from(options.memory) << 20, "touched_at_first_answer": memory.first, "touched_after_work": memory.last },
    });
    println!("written: {}", write_json("boot", &figures)?.display());
    Ok(())
}

/// The place in [`PARTS`] of the whole.
const WHOLE: usize = 5;

/// The place in [`PARTS`] of what the image takes to its first Rust function; what it takes until it is ready follows.
const ENTRY: usize = 2;

/// One start: how long each of [`PARTS`] took, in seconds.
fn measure(options: &Options) -> Result<[f64; PARTS.len()]> {
    let (mut vm, connections) = ServiceVm::start(options)?;
    let machine = Instant::now();
    let mut client = vm.connect(connections.requests)?;
    let answered = Instant::now();
    let processor = processor_time(vm.process_id())?.as_secs_f64();
    let entered = entry_of(&mut client)?;
    // The next start finds no journal to recover.
    let (ctl, _) = client.attach(b"ctl")?;
    let state = client.walk_path(ctl, b"volume")?;
    client.open(state, OpenFlags::WRONLY)?;
    client.write_all(state, 0, b"rest")?;
    client.read_file(ctl, b"version")?;
    let line = vm.transcript().wait_for("ready after ", Duration::from_secs(5));
    let (ready, entry) = times(&line.context("the service VM does not say that it is ready")?)?;
    let since = |moment: Instant| moment.duration_since(vm.started()).as_secs_f64();
    let [machine, entered, answered] = [machine, entered, answered].map(since);
    Ok([machine, entered - machine, entry, ready - entry, answered - entered - ready, answered, processor])
}

/// One start: the seconds from the image's entry to when it is ready.
pub(super) fn entry_to_ready(options: &Options) -> Result<f64> {
    let parts = measure(options)?;
    Ok(parts[ENTRY] + parts[ENTRY + 1])
}

/// The two times, in seconds, of the line that says that the image is ready: since its entry, and what the entry took.
fn times(line: &str) -> Result<(f64, f64)> {
    let parse = || {
        let (ready, entry) =
            line.split_once("ready after ")?.1.split_once(" microseconds, the entry took ")?;
        Some((ready.parse::<f64>().ok()? / 1e6, entry.trim().parse::<f64>().ok()? / 1e6))
    };
    parse().with_context(|| format!("the service VM says {line:?}"))
}

/// When the image was entered.
fn entry_of(client: &mut Client<RingTransport>) -> Result<Instant> {
    let (ctl, _) = client.attach(b"ctl")?;
    let stats = client.walk_path(ctl, b"stats")?;
    client.open(stats, OpenFlags::RDONLY)?;
    let mut best: Option<(Duration, Instant)> = None;
    for _ in 0..LOOKS {
        let begin = Instant::now();
        let text = String::from_utf8(client.read(stats, 0, 4096)?)?;
        let took = begin.elapsed();
        let uptime = text.lines().find_map(|line| line.strip_prefix("uptime_microseconds "));
        let uptime = Duration::from_micros(uptime.context("ctl/stats has no uptime")?.parse()?);
        let entered =
            (begin + took / 2).checked_sub(uptime).context("an uptime longer than this machine's")?;
        if best.is_none_or(|(quickest, _)| took < quickest) {
            best = Some((took, entered));
        }
    }
    best.map(|(_, entered)| entered).context("the uptime was never asked for")
}

/// Bytes of the service VM's RAM that anything has touched: the firmware, QEMU when it loaded the image, the image.
struct Touched {
    /// At the first answer.
    first: u64,
    /// After some work.
    last: u64,
}

/// One more start, with RAM that counts its pages: a memfd has a page only where something was read or written.
fn memory(options: &Options) -> Result<Touched> {
    let backend = format!("memory-backend-memfd,id={RAM},share=on,size={}M", options.memory);
    let arguments = ["-object", &backend, "-machine", &format!("memory-backend={RAM}")];
    let options = Options { arguments: arguments.map(str::to_owned).into(), ..options.clone() };
    let (mut vm, connections) = ServiceVm::start(&options)?;
    let mut client = vm.connect(connections.requests)?;
    let first = pages_of_ram(vm.process_id())?;
    let (root, _) = client.attach(b"")?;
    work(&mut client, root).context("the work of which the memory is counted")?;
    Ok(Touched { first, last: pages_of_ram(vm.process_id())? })
}

/// Bytes that the memfd of the process's RAM takes.
fn pages_of_ram(process: u32) -> Result<u64> {
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let path = entry?.path();
        // A descriptor may have been closed since.
        let is_ram = fs::read_link(&path).is_ok_and(|target| is_memfd(&target));
        if is_ram {
            return Ok(fs::metadata(&path)?.blocks() * 512);
        }
    }
    anyhow::bail!("QEMU (process {process}) has no memfd for its RAM")
}

/// QEMU names the memfd after the kind of backend; the ring's memory has another name.
fn is_memfd(target: &Path) -> bool {
    target.to_string_lossy().starts_with("/memfd:memory-backend-memfd")
}

/// Files are made, filled, listed, read and removed.
fn work(client: &mut Client<RingTransport>, root: Fid) -> Result<()> {
    let names: Vec<String> = (0..500).map(|number| format!("file-{number}")).collect();
    for name in &names {
        client.create_file(root, name.as_bytes(), name.as_bytes())?;
    }
    client.create_file(root, b"large", &vec![0x5a; 8 << 20])?;
    ensure!(client.read_file(root, b"large")?.len() == 8 << 20, "a file is shorter than it was written");
    let directory = client.walk_path(root, b"")?;
    client.open(directory, OpenFlags::RDONLY)?;
    ensure!(client.list(directory)?.len() > names.len(), "files are missing");
    for name in &names {
        client.unlinkat(root, name.as_bytes(), skerry::wire::UnlinkFlags::empty())?;
    }
    client.fsync(directory, false)?;
    Ok(())
}

/// Prints and draws the times.
fn report_starts(parts: &[Sample]) -> Result<()> {
    let mut table = Table::new(&["from QEMU's exec to the first answer", "ms", "spread"]);
    let milliseconds = |sample: &Sample| sample.median().unwrap_or(f64::NAN);
    for (name, sample) in PARTS.iter().zip(parts) {
        let spread = format!("{:.0} %", 100.0 * sample.spread().unwrap_or(f64::NAN));
        table.row(vec![(*name).to_owned(), number(milliseconds(sample)), spread]);
    }
    print!("{}", table.render());
    println!("(medians of {} starts)\n", parts.first().map_or(0, Sample::rounds));
    let groups = PARTS.iter().zip(parts).map(|(name, sample)| ((*name).to_owned(), vec![sample.median()]));
    let bars = Bars {
        title: "From QEMU's exec to the first 9P answer",
        unit: "milliseconds",
        series: vec!["median".to_owned()],
        groups: groups.collect(),
    };
    draw("boot", |file| bars.draw(file))
}

/// Prints the sizes.
fn report_sizes(loaded: u64, file: usize, memory: &Touched, options: &Options) {
    let mut table = Table::new(&["size", "KiB"]);
    let mut row = |what: &str, bytes: u64| table.row(vec![what.to_owned(), number(bytes as f64 / 1024.0)]);
    row("image: what is loaded", loaded);
    row("image: its file", file as u64);
    let ram = u64::from(options.memory) << 20;
    row("RAM that the VM is given", ram);
    row("RAM touched until the first answer", memory.first);
    row("RAM touched after some work", memory.last);
    println!("\n{}", table.render());
    println!(
        "image: {} KiB (target {} KiB: {})",
        number(loaded as f64 / 1024.0),
        LARGEST_IMAGE >> 10,
        reached(loaded <= LARGEST_IMAGE)
    );
    println!(
        "memory of the service VM: {} MiB (target {} MiB: {})",
        options.memory,
        MOST_MEMORY >> 20,
        reached(ram <= MOST_MEMORY)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_image_has_both_times() {
        let (ready, entry) =
            times("[ 0.02] INFO  ready after 21500 microseconds, the entry took 250").unwrap();
        assert!((ready - 0.0215).abs() < 1e-9 && (entry - 0.00025).abs() < 1e-9, "{ready} {entry}");
        assert!(times("ready after all").is_err());
    }
}
