//! Where Debian's archive is: what this machine's own package sources say, since they are what reaches the network from
//! here.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What apt is to say of each list of packages that it knows of. What it doesn't know, it leaves as it stands here.
const FORMAT: &str = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";

/// The address of Debian's archive in apt's configuration.
pub fn find() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", FORMAT, "Created-By: Packages"]);
    let output = command.output().context("the baseline is a package of Debian's, and there is no apt-get here")?;
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let lists = String::from_utf8_lossy(&output.stdout);
    match debian(&lists, codename(&system)) {
        Some(address) => Ok(address.to_string()),
        None => bail!("the baseline is a package of Debian's, and apt's sources here name no mirror of Debian"),
    }
}

/// This system's release, from `/etc/os-release`.
fn codename(system: &str) -> Option<&str> {
    let value = system.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"'))
}

/// The first of apt's lists that is of a release of Debian: its origin says so, or, where nothing was fetched from there
/// yet, it is called like this system's release. Others use that name, too, but not for a component `main`.
fn debian<'a>(lists: &'a str, codename: Option<&str>) -> Option<&'a str> {
    lists.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, release, "main", origin, ..] = words[..] else { return None };
        // Updates, security and the like have names with a dash or a slash in them.
        let is_release = !release.contains(['-', '/']);
        let is_debian = origin == "Debian" || (origin.starts_with("$(") && Some(release) == codename);
        (is_release && is_debian).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_told_from_others_and_from_its_own_updates() {
        let lists = "http://elsewhere.example/ubuntu/ noble main Ubuntu\n\
                     http://elsewhere.example/tools/ bookworm stable $(ORIGIN)\n\
                     http://mirror.example/security/ bookworm-security main Debian\n\
                     http://mirror.example/debian/ bookworm-updates main Debian\n\
                     http://mirror.example/debian/ bookworm contrib Debian\n\
                     http://mirror.example/debian/ bookworm main Debian\n";
        assert_eq!(debian(lists, None), Some("http://mirror.example/debian/"));
        assert_eq!(debian("http://elsewhere.example/ubuntu/ noble main Ubuntu\n", Some("noble")), None);
        assert_eq!(debian("", Some("bookworm")), None);
    }

    #[test]
    fn before_anything_was_fetched_the_release_of_this_system_tells() {
        let lists = "http://elsewhere.example/ sid main $(ORIGIN)\nhttp://mirror.example/ bookworm main $(ORIGIN)\n";
        assert_eq!(debian(lists, Some("bookworm")), Some("http://mirror.example/"));
        assert_eq!(debian(lists, Some("trixie")), None);
        assert_eq!(debian(lists, None), None);
    }

    #[test]
    fn the_release_stands_in_the_description_of_the_system() {
        assert_eq!(codename("NAME=\"Debian\"\nVERSION_CODENAME=bookworm\n"), Some("bookworm"));
        assert_eq!(codename("VERSION_CODENAME=\"trixie\"\n"), Some("trixie"));
        assert_eq!(codename("NAME=Other\n"), None);
    }
}
