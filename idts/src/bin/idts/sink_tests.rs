// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of sink.rs and place.rs.

use super::*;
use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{mknodat, FileType, CWD};
use tempfile::TempDir;

/// The name of the temporary is the program's, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
    fs::read_dir(folder)
        .unwrap()
        .map(name)
        .map(|n| n.into_string().unwrap())
        .collect()
}

fn create(path: &Path) -> io::Result<FileSink> {
    FileSink::create(path, None, false)
}

fn receive(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut sink = create(path)?;
    sink.write_all(content)?;
    sink.commit()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    (folder, path)
}

#[test]
fn nothing_stands_before_commit_and_nothing_stays_without() {
    let _alone = alone();
    let (folder, path) = folder();
    let mut sink = create(&path).unwrap();
    sink.write_all(b"new").unwrap();
    assert!(!path.exists());
    drop(sink);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn commit_replaces_the_old_file() {
    let _alone = alone();
    let (folder, path) = folder();
    fs::write(&path, "old").unwrap();
    let mut sink = create(&path).unwrap();
    sink.write_all(b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    sink.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn a_temporary_with_a_name_does_the_same() {
    let _alone = alone();
    let (folder, path) = folder();
    let open = || {
        let Found::Place(target) = find(&path, false).unwrap() else {
            panic!("{path:?} is special");
        };
        FileSink {
            file: make_part(&target, Mode::from_raw_mode(0o666)).unwrap(),
            target: Some(target),
        }
    };
    drop(open());
    assert!(names(folder.path()).is_empty());
    let mut sink = open();
    sink.write_all(b"new").unwrap();
    sink.commit().unwrap();
    assert_eq!(names(folder.path()), ["file"]);
    assert_eq!(fs::read(&path).unwrap(), b"new");
    // Somebody who may write in the folder puts something else in the temporary's place.
    let sink = open();
    let part = folder.path().join(
        names(folder.path())
            .into_iter()
            .find(|name| name != "file")
            .unwrap(),
    );
    fs::rename(&part, folder.path().join("moved")).unwrap();
    fs::write(&part, "theirs").unwrap();
    sink.commit().unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn devices_are_written_straight_and_folders_refused() {
    let _alone = alone();
    receive(Path::new("/dev/null"), b"gone").unwrap();
    for path in ["/", ".", "..", "/tmp", "/tmp/"] {
        let error = create(Path::new(path)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{path}");
    }
    assert!(create(Path::new("/nowhere/file")).is_err());
}

/// Whoever may write above the folder puts a link in its place while the file comes.
#[test]
fn a_folder_that_is_exchanged_leads_nowhere() {
    let _alone = alone();
    let (folder, _) = folder();
    let [inside, moved, other] = ["in", "moved", "other"].map(|name| folder.path().join(name));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&other).unwrap();
    let mut sink = create(&inside.join("file")).unwrap();
    fs::rename(&inside, &moved).unwrap();
    symlink("other", &inside).unwrap();
    sink.write_all(b"new").unwrap();
    sink.commit().unwrap();
    assert!(names(&other).is_empty());
    assert_eq!(fs::read(moved.join("file")).unwrap(), b"new");
}

#[test]
fn a_link_is_followed_if_it_is_ones_own() {
    let _alone = alone();
    let (folder, path) = folder();
    symlink("target", &path).unwrap();
    for content in ["first", "second"] {
        receive(&path, content.as_bytes()).unwrap();
        assert!(path.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        assert_eq!(
            fs::read_to_string(folder.path().join("target")).unwrap(),
            content
        );
    }
    symlink("loop", folder.path().join("loop")).unwrap();
    let error = create(&folder.path().join("loop")).unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::LOOP.raw_os_error())
    );
    if is_root() {
        std::os::unix::fs::lchown(&path, Some(1), None).unwrap();
        let error = create(&path).unwrap_err();
        assert!(error.to_string().contains("link of somebody else"));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_pipe_of_somebody_else_is_not_written() {
    let _alone = alone();
    let (_folder, path) = folder();
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
    // So that opening it does not wait.
    let _reader = File::options().read(true).write(true).open(&path).unwrap();
    receive(&path, b"mine").unwrap();
    if is_root() {
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        let error = create(&path).unwrap_err();
        assert!(error.to_string().contains("--device"), "{error}");
        let mut sink = FileSink::create(&path, None, true).unwrap();
        sink.write_all(b"theirs").unwrap();
        sink.commit().unwrap();
    }
}

#[test]
fn the_longest_name_works() {
    let _alone = alone();
    let (folder, _) = folder();
    let path = folder.path().join("n".repeat(255));
    receive(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn the_mode_is_what_was_asked_for() {
    let _alone = alone();
    let (_folder, path) = folder();
    for mode in [0o600, 0o777, 0o640] {
        let sink = FileSink::create(&path, Some(Mode::from_raw_mode(mode)), false);
        sink.unwrap().commit().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
}

/// What was private does not become public by a new content.
#[test]
fn a_file_that_is_replaced_keeps_its_secrets() {
    let _alone = alone();
    let (_folder, path) = folder();
    for mode in [0o600, 0o440, 0o755] {
        fs::remove_file(&path).unwrap_or_default();
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        receive(&path, b"new").unwrap();
        let now = fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(now & !mode, 0, "{now:o} after {mode:o}");
        assert_eq!(now & 0o600, mode & 0o600);
    }
}

/// A link is a trap at any place of a path.
#[test]
fn no_link_of_somebody_else_is_on_the_way() {
    let _alone = alone();
    let (folder, _) = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("etc/deep")).unwrap();
    symlink("etc", at("in")).unwrap();
    symlink("../in/deep/", at("etc/again")).unwrap();
    for path in ["in/file", "in/again/file", "in/deep/../file", "./in//file"] {
        receive(&at(path), path.as_bytes()).unwrap();
        assert_eq!(fs::read(at(path)).unwrap(), path.as_bytes());
    }
    // A folder that is open, by a link which is no path.
    let open = File::open(at("etc")).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
    receive(Path::new(&format!("/proc/self/fd/{fd}/open")), b"new").unwrap();
    assert_eq!(fs::read(at("etc/open")).unwrap(), b"new");
    for path in ["in", "in/", "in/again", "in/deep/..", "etc/again/."] {
        let error = create(&at(path)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory, "{path}");
    }
    fs::write(at("plain"), "").unwrap();
    let error = create(&at("plain/file")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    if is_root() {
        std::os::unix::fs::lchown(at("in"), Some(1), None).unwrap();
        for path in ["in/new", "etc/again/new"] {
            let error = create(&at(path)).unwrap_err();
            assert!(
                error.to_string().contains("link of somebody else"),
                "{error}"
            );
        }
        assert!(!at("etc/new").exists() && !at("etc/deep/new").exists());
    }
}

/// A folder that may be written and not read, as a drop box is; root can tell by /proc alone.
#[test]
fn a_folder_need_not_be_readable() {
    let _alone = alone();
    let (folder, path) = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o300)).unwrap();
    receive(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn room_is_known_of_folders() {
    let _alone = alone();
    let (_folder, path) = folder();
    assert!(create(&path).unwrap().room().is_some());
    assert!(create(Path::new("/dev/null")).unwrap().room().is_none());
}
