use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Unit;
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// The process, as the kernel sees it at a scrape.
#[derive(Debug)]
pub struct Process {
    started: f64,
}

impl Process {
    /// The process, which starts now.
    pub fn start() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
        add(&mut encoder, "process_cpu", "CPU time of the process", Some(&Unit::Seconds), &cpu)?;
        let started = ConstGauge::new(self.started);
        add(&mut encoder, "process_start_time", "Unix time of the start", Some(&Unit::Seconds), &started)?;
        if let Some(bytes) = resident_bytes() {
            let resident = ConstGauge::new(bytes);
            add(&mut encoder, "process_resident_memory", "Resident memory", Some(&Unit::Bytes), &resident)?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            let open = ConstGauge::new(files.count().saturating_sub(1) as u64);
            add(&mut encoder, "process_open_files", "Open file descriptors", None, &open)?;
        }
        Ok(())
    }
}

fn add<M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &M,
) -> fmt::Result {
    let kind: MetricType = M::TYPE;
    metric.encode(encoder.encode_descriptor(name, help, unit, kind)?)
}

/// proc(5): the second number of `statm` is the resident set size, in pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}
