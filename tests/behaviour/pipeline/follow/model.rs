//! Random writes, rotations, deletions and restarts, against the list of the lines written.
//!
//! Every look must find every line that can still be read, once, and in order. A line that cannot be read any more may be
//! missing; where the documentation says that this is noticed, it must be reported, and nothing else may be.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use streamz::{FileLine, Follow, FollowStart};

use super::Run;
use crate::pipeline::folder::Folder;

/// What a file contained from its beginning until it was rotated or deleted.
#[derive(Default)]
struct Generation {
    /// Its file beside the followed one, or the followed one itself.
    file: Option<PathBuf>,
    is_packed: bool,
    /// Whether a look has found it, so that the source has it open, or is done with it.
    is_found: bool,
    /// Whether it had the name when it was found, and has been copied since.
    is_copy_of_found: bool,
    lines: Vec<usize>,
    /// What was written after the last line end.
    partial: String,
    /// The same at the last look. If the rest is lost, this becomes a line.
    read_partial: String,
    /// Where its last line that was seen ends.
    seen_to: u64,
}

struct World {
    random: Rng,
    folder: Folder,
    is_copying: bool,
    has_dates: bool,
    run: Option<Run>,
    generations: Vec<Generation>,
    /// The generation that has the name.
    named: Option<usize>,
    /// The rotated ones that exist, the oldest first, and their names.
    rotated: Vec<(usize, String)>,
    /// The file that is written to; it may have been renamed.
    writer: Option<(File, usize)>,
    /// Open files keep their numbers from being used again.
    open: Vec<File>,
    seconds: u64,
    count: usize,
    /// The lines, and whether each may be missing.
    lines: Vec<(String, bool)>,
    indices: HashMap<String, usize>,
    seen: Vec<usize>,
    /// The beginnings of lines that may become lines, since no end comes.
    fragments: Vec<String>,
    /// The generation that had the name at the last look.
    held: Option<usize>,
    /// What has happened since the last look that noticed a change of the files.
    is_suspicious: bool,
    vanished: usize,
    has_turned: bool,
    steps: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let (is_copying, has_dates) = (random.bool(), random.bool());
        let mut world = Self {
            random,
            folder: Folder::new(),
            is_copying,
            has_dates,
            run: None,
            generations: Vec::new(),
            named: None,
            rotated: Vec::new(),
            writer: None,
            open: Vec::new(),
            seconds: 1_000_000_000,
            count: 0,
            lines: Vec::new(),
            indices: HashMap::new(),
            seen: Vec::new(),
            fragments: Vec::new(),
            held: None,
            is_suspicious: false,
            vanished: 0,
            has_turned: false,
            steps: Vec::new(),
        };
        // Files of former days, which are not to be read.
        for _ in 0..world.random.usize(..3) {
            let generation = world.generation(None);
            world.rotated.push((generation, String::new()));
            let path = world.rename_all();
            fs::write(&path, "of a former day\n").unwrap();
            world.stamp(&path);
            if world.random.bool() {
                world.pack(world.rotated.len() - 1);
            }
        }
        if world.random.bool() {
            world.write();
        }
        world.start(FollowStart::Beginning);
        world
    }

    fn log(&self) -> PathBuf {
        self.folder.path("log")
    }

    /// Gives a file the next time of change, and keeps it open.
    fn stamp(&mut self, path: &PathBuf) {
        self.seconds += 1;
        let file = OpenOptions::new().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(self.seconds)).unwrap();
        self.open.push(file);
    }

    fn generation(&mut self, file: Option<PathBuf>) -> usize {
        self.generations.push(Generation { file, ..Generation::default() });
        self.generations.len() - 1
    }

    /// Creates an empty file of the name.
    fn create(&mut self) -> usize {
        let path = self.log();
        File::create_new(&path).unwrap();
        self.stamp(&path);
        let generation = self.generation(Some(path));
        self.named = Some(generation);
        self.has_turned = true;
        generation
    }

    /// The writer opens the file of the name from now on.
    fn reopen(&mut self) {
        if let Some((_, generation)) = self.writer.take_if(|(_, it)| self.named != Some(*it)) {
            self.breaks_off(generation);
        }
    }

    fn breaks_off(&mut self, generation: usize) {
        let partial = std::mem::take(&mut self.generations[generation].partial);
        if !partial.is_empty() {
            self.fragments.push(partial);
        }
    }

    /// Writes some lines, and perhaps a part of one.
    fn write(&mut self) {
        if self.random.u8(..3) == 0 {
            self.reopen();
        }
        if self.writer.is_none() {
            let generation = self.named.unwrap_or_else(|| self.create());
            self.writer = Some((OpenOptions::new().append(true).open(self.log()).unwrap(), generation));
        }
        for _ in 0..self.random.usize(..4) {
            let generation = self.writer.as_ref().unwrap().1;
            let started = std::mem::take(&mut self.generations[generation].partial);
            let line = if started.is_empty() {
                self.count += 1;
                let common = if self.count.is_multiple_of(2) { "the same beginning " } else { "" };
                let len = if self.random.u8(..10) == 0 { 400 } else { self.random.usize(..30) };
                format!("{common}{} {}", self.count, "x".repeat(len))
            } else {
                started.clone()
            };
            if self.random.u8(..4) == 0 {
                // Without its end.
                let added = if started.is_empty() { &*line } else { "yy" };
                self.put(added);
                self.generations[generation].partial = started + added;
                if self.random.bool() && self.run.is_some() {
                    self.look();
                }
            } else {
                let line = line + ";";
                self.put(&format!("{}\n", &line[started.len()..]));
                self.indices.insert(line.clone(), self.lines.len());
                self.generations[generation].lines.push(self.lines.len());
                self.lines.push((line, false));
            }
        }
        self.steps.push(format!("write up to {}", self.count));
    }

    fn put(&mut self, text: &str) {
        let (file, generation) = self.writer.as_mut().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = self.generations[*generation].file.clone().unwrap();
        self.stamp(&path);
    }

    /// Gives the rotated files their names. The last one may be new; returns its path.
    fn rename_all(&mut self) -> PathBuf {
        let count = self.rotated.len();
        for index in 0..count {
            let (generation, name) = self.rotated[index].clone();
            let is_packed = self.generations[generation].is_packed;
            let new = match (self.has_dates, name.is_empty()) {
                (true, true) => format!("log-{}", 20_260_101 + self.generations.len()),
                (true, false) => continue,
                (false, _) => format!("log.{}{}", count - index, if is_packed { ".gz" } else { "" }),
            };
            let path = self.folder.path(&new);
            if !name.is_empty() {
                fs::rename(self.folder.path(&name), &path).unwrap();
                self.generations[generation].file = Some(path).filter(|_| !is_packed);
            }
            self.rotated[index].1 = new;
        }
        self.folder.path(&self.rotated[count - 1].1)
    }

    fn rotate(&mut self) {
        let Some(named) = self.named else { return };
        if self.is_copying { self.copy_and_empty(named) } else { self.rename(named) }
    }

    fn rename(&mut self, named: usize) {
        self.steps.push("rename".into());
        self.reopen();
        self.rotated.push((named, String::new()));
        let path = self.rename_all();
        fs::rename(self.log(), &path).unwrap();
        self.generations[named].file = Some(path);
        self.named = None;
        self.has_turned = true;
        if self.random.bool() {
            self.create();
        }
    }

    fn copy_and_empty(&mut self, named: usize) {
        self.steps.push("copy and empty".into());
        self.rotated.push((named, String::new()));
        let copy = self.rename_all();
        fs::copy(self.log(), &copy).unwrap();
        if self.random.bool() {
            self.stamp(&copy);
        } else {
            // As by `cp -p`.
            let time = fs::metadata(self.log()).unwrap().modified().unwrap();
            let file = OpenOptions::new().append(true).open(&copy).unwrap();
            file.set_modified(time).unwrap();
            self.open.push(file);
        }
        let (old, copied) = (&self.generations[named], self.generations[named].lines.len());
        self.has_turned |= !old.lines.is_empty();
        self.fragments.push(old.partial.clone());
        let mut is_late = false;
        if self.random.u8(..3) == 0 {
            // It is written to before it is emptied; that can only be read before that.
            self.write();
            is_late = true;
        }
        if self.random.u8(..3) == 0 && self.run.is_some() {
            self.look();
        }
        self.is_suspicious |= is_late;
        for index in self.generations[named].lines.split_off(copied) {
            self.lines[index].1 = true;
        }
        self.breaks_off(named);
        self.generations[named].is_copy_of_found = self.generations[named].is_found;
        self.generations[named].is_found = false;
        self.generations[named].file = Some(copy);
        self.empty();
    }

    /// Empties the file of the name, which begins a generation.
    fn empty(&mut self) {
        let path = self.log();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        self.stamp(&path);
        let generation = self.generation(Some(path));
        self.generations[generation].is_found = self.named.is_some_and(|it| self.held == Some(it));
        if self.held == self.named {
            self.held = Some(generation);
        }
        self.named = Some(generation);
        if let Some((_, it)) = &mut self.writer {
            *it = generation;
        }
    }

    /// Empties the file without a copy. What has not been read is lost.
    fn truncate(&mut self) {
        let Some(named) = self.named.filter(|it| self.writer.as_ref().is_none_or(|(_, writes)| writes == it)) else {
            return;
        };
        self.steps.push("truncate".into());
        self.is_suspicious = true;
        self.forget(named);
        self.breaks_off(named);
        self.generations[named].file = None;
        self.empty();
    }

    /// Deletes the file of the name.
    fn delete(&mut self) {
        if self.generations.iter().any(|it| it.is_copy_of_found && !it.is_found) {
            // The order of what was copied before and what was not is not known.
            return;
        }
        let Some(named) = self.named.take() else { return };
        self.steps.push("delete".into());
        self.reopen();
        fs::remove_file(self.log()).unwrap();
        self.vanishes(named);
    }

    fn vanishes(&mut self, generation: usize) {
        self.is_suspicious = true;
        self.vanished += usize::from(self.generations[generation].is_found);
        self.generations[generation].file = None;
    }

    /// Deletes the oldest rotated file.
    fn delete_oldest(&mut self) {
        if self.rotated.is_empty() {
            return;
        }
        let (generation, name) = self.rotated.remove(0);
        self.steps.push(format!("delete {name}"));
        if self.writer.as_ref().is_some_and(|(_, it)| *it == generation) {
            self.reopen();
        }
        fs::remove_file(self.folder.path(&name)).unwrap();
        self.vanishes(generation);
    }

    fn pack(&mut self, index: usize) {
        let (generation, name) = self.rotated[index].clone();
        if self.generations[generation].is_packed {
            return;
        }
        self.steps.push(format!("pack {name}"));
        if self.writer.as_ref().is_some_and(|(_, it)| *it == generation) {
            self.reopen();
        }
        self.is_suspicious = true;
        let (old, new) = (self.folder.path(&name), format!("{name}.gz"));
        fs::write(self.folder.path(&new), [&b"\x1f\x8b\n"[..], &fs::read(&old).unwrap()].concat()).unwrap();
        self.stamp(&self.folder.path(&new));
        fs::remove_file(old).unwrap();
        self.generations[generation].is_packed = true;
        self.generations[generation].file = None;
        self.rotated[index].1 = new;
    }

    /// The unseen lines of a generation may be missing. Returns whether there are any.
    fn forget(&mut self, generation: usize) -> bool {
        let mut has_lost = false;
        for index in &self.generations[generation].lines {
            has_lost |= !self.seen.contains(index) && !std::mem::replace(&mut self.lines[*index].1, true);
        }
        has_lost
    }

    fn start(&mut self, start: FollowStart) {
        let run = Run::new(Follow::new(self.log()).with_start(start).with_max_len(1000));
        self.run = Some(run);
        // All that is beside the file is of former days.
        for (generation, _) in self.rotated.clone() {
            self.forget(generation);
            self.generations[generation].is_found = true;
        }
        self.vanished = 0;
        self.is_suspicious = false;
    }

    fn look(&mut self) {
        let run = self.run.as_mut().unwrap();
        run.clock.advance(crate::ms(100));
        let items = run.items();
        self.steps.push("look".into());
        let is_lost = self.check(items);
        let unfound = |it: &&(usize, String)| !self.generations[it.0].is_found;
        let new_packed = self.rotated.iter().filter(unfound).filter(|it| self.generations[it.0].is_packed).count();
        // Not a copy of what the file still contains.
        let rotated = self.rotated.iter().filter(unfound).filter(|it| self.named != Some(it.0));
        let mut new_plain = rotated.map(|it| &self.generations[it.0]).filter(|it| !it.is_packed);
        let (has_plain, has_other) = (new_plain.clone().next().is_some(), new_plain.any(|it| !it.is_copy_of_found));
        let is_held_gone = self.held.is_some_and(|it| self.generations[it].file.is_none());
        let was_seen = |it: &Generation| it.is_copy_of_found && !it.is_found && it.seen_to > 0;
        let is_copy_gone = self.generations.iter().any(|it| was_seen(it) && it.file.is_none());
        // Otherwise it may not be noticed that the file was emptied.
        let is_changed = self.held != self.named || self.generations.iter().any(was_seen);
        let mut has_lost = false;
        for generation in 0..self.generations.len() {
            if !self.generations[generation].is_found && self.generations[generation].file.is_none() {
                has_lost |= self.forget(generation);
            }
        }
        let is_noticed =
            is_changed && new_packed > self.vanished || has_other && is_held_gone || has_plain && is_copy_gone;
        assert!(is_lost || !(has_lost && is_noticed), "a loss was not reported");
        assert!(!is_lost || self.is_suspicious, "reported without a reason");
        self.all_seen();

        let has_new = self.generations.iter().any(|it| !it.is_found);
        self.all_found();
        self.held = if self.named.is_some() || has_new || is_held_gone { self.named } else { self.held };
        if self.has_turned && is_changed {
            (self.has_turned, self.is_suspicious, self.vanished) = (false, false, 0);
        }
    }

    /// Checks what was read. Returns whether a loss was reported.
    fn check(&mut self, items: Vec<Result<FileLine, String>>) -> bool {
        let mut is_lost = false;
        for item in items {
            let line = match item {
                Ok(line) => line,
                Err(error) => {
                    assert!(error.contains("may be missing"), "{error}");
                    is_lost = true;
                    continue;
                }
            };
            let text = line.text().unwrap();
            let Some(index) = self.indices.get(text) else {
                if let Some(fragment) = self.fragments.iter().position(|it| it == text) {
                    self.fragments.swap_remove(fragment);
                } else {
                    let generation = self.generations.iter_mut().find(|it| it.read_partial == text);
                    generation.unwrap_or_else(|| panic!("{text:?} was not written")).read_partial.clear();
                }
                continue;
            };
            assert!(self.seen.last().is_none_or(|last| last < index), "{text:?} after {:?}", self.seen.last());
            self.seen.push(*index);
            if let Some(generation) = self.generations.iter_mut().find(|it| it.lines.contains(index)) {
                generation.seen_to = line.end;
            }
        }
        is_lost
    }

    fn all_seen(&self) {
        for (index, (line, may_be_missing)) in self.lines.iter().enumerate() {
            assert!(*may_be_missing || self.seen.contains(&index), "{line:?} is missing");
        }
    }

    fn all_found(&mut self) {
        for it in &mut self.generations {
            it.is_found = true;
            it.read_partial.clone_from(&it.partial);
        }
    }

    /// The source ends, and a new one continues after the last line.
    fn resume(&mut self) {
        self.look();
        self.reopen();
        self.run.take().unwrap().drain();
        let position = self.named.map_or(0, |named| self.generations[named].seen_to);
        self.steps.push(format!("resume at {position}"));
        let before = self.named;
        match self.random.u8(..3) {
            0 => self.write(),
            1 if position > 0 => self.rotate(),
            _ => {}
        }
        let is_other = self.named != before && position > 0;
        if is_other && fs::metadata(self.log()).is_ok_and(|meta| meta.len() >= position) {
            // This would not be noticed.
            self.empty();
        }
        self.reopen();
        self.start(FollowStart::Offset(position));
        let run = self.run.as_mut().unwrap();
        let items = run.items();
        assert_eq!(self.check(items), is_other && self.named.is_some(), "whether a loss was reported");
        self.all_seen();
        self.all_found();
        self.held = self.named;
        self.has_turned = false;
    }

    fn step(&mut self) {
        match self.random.u8(..20) {
            0..7 => self.write(),
            7..11 => self.rotate(),
            11 => self.truncate(),
            12 => self.delete(),
            13 => self.delete_oldest(),
            14 if !self.rotated.is_empty() => {
                let index = self.random.usize(..self.rotated.len());
                self.pack(index);
            }
            15 if self.random.bool() => self.resume(),
            _ => self.look(),
        }
    }
}

#[test]
fn each_line_comes_once_in_order_or_its_loss_is_reported() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.look();
            for _ in 0..world.random.usize(5..60) {
                world.step();
            }
            world.look();
        }));
        if let Err(panic) = result {
            eprintln!("seed {seed}: {:#?}", world.steps);
            std::panic::resume_unwind(panic);
        }
    }
}
