//! What Linux tells of processes and of the machine under `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, bail};

/// Ticks in a second, in which `/proc/PID/stat` counts: USER_HZ is 100 on every architecture that Linux still has, but
/// for Alpha.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time that a process has used so far, in user space and in the kernel, all its threads together. Exact to 10 ms.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    cpu_of_stat(&text).with_context(|| format!("{path} has an unknown form"))
}

/// Memory of a process that is resident, in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    resident_of_status(&text).with_context(|| format!("{path} has an unknown form"))
}

/// Files that this process may have open; `None`: as many as it likes.
pub(crate) fn open_files() -> anyhow::Result<Option<u64>> {
    let text = fs::read_to_string("/proc/self/limits").context("/proc/self/limits")?;
    match open_files_of_limits(&text) {
        Some("unlimited") => Ok(None),
        Some(number) => Ok(Some(number.parse().context("/proc/self/limits")?)),
        None => bail!("/proc/self/limits has an unknown form"),
    }
}

/// Cores, model of the CPU, kernel: as far as they are told.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_model(&info).unwrap_or("unknown CPU");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// When the kernel makes huge pages of memory by itself: `always`, on `madvise`, or `never`; `None`: it does not tell.
pub(crate) fn huge_pages() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    chosen(&text).map(str::to_owned)
}

/// The name of the program stands in brackets and may hold anything, so counting begins behind the last bracket.
fn cpu_of_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    // Fields 14 and 15 of proc_pid_stat(5); the first one here is its third.
    let mut fields = fields.split_ascii_whitespace().skip(14 - 3);
    let (user, kernel) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(Duration::from_millis((user + kernel) * (1000 / TICKS_PER_SECOND)))
}

fn resident_of_status(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn open_files_of_limits(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()
}

fn cpu_model(info: &str) -> Option<&str> {
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Of a list of words the one in square brackets.
fn chosen(list: &str) -> Option<&str> {
    list.split_ascii_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_brackets() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(cpu_of_stat(text), expected.map(Duration::from_millis), "{text}");
        };
        check("7 (node) S 1 7 7 0 -1 4194304 10 20 0 0 123 45 6 7 20 0 3", Some(1680));
        check("7 (a) b (c) S 1 7 7 0 -1 4194304 10 20 0 0 1 0 6 7 20", Some(10));
        check("7 (node) S 1 7 7 0 -1 4194304 10 20 0 0 123", None);
        check("", None);
    }

    #[test]
    fn memory_limits_and_model_are_found_among_their_neighbours() {
        assert_eq!(resident_of_status("VmHWM:\t  9 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 5 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_of_status("VmHWM:\t  9 kB\n"), None);
        let limits = "Max processes             5    6    processes\nMax open files            1024   20000  files\n";
        assert_eq!(open_files_of_limits(limits), Some("1024"));
        assert_eq!(open_files_of_limits(""), None);
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("always\n"), None);
        assert_eq!(cpu_model("model\t\t: 1\nmodel name\t: A Chip @ 2 GHz\n"), Some("A Chip @ 2 GHz"));
    }

    #[test]
    fn this_process_is_told_of() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 100_000);
        let before = cpu(own).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            std::hint::black_box(0);
        }
        assert!(cpu(own).unwrap() >= before);
        assert!(cpu(u32::MAX).is_err());
    }
}
