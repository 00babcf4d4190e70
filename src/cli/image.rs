//! `honeyweave image`: the images that containers start from; and `__import`, which reads what is brought.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::container::ImageConfig;
use crate::container::image::import::{self, Imported, Limits};
use crate::container::image::{self, ImageError, Progress, RECIPES};
use crate::topology;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Where images lie
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "HONEYWEAVE_STATE_DIR",
        default_value = "/var/lib/honeyweave"
    )]
    pub state_dir: PathBuf,
}

/// Arguments of the process that reads what is brought.
#[derive(clap::Args, Debug)]
pub struct ImportEntry {
    /// The image that it is about, for whoever looks at the list of processes
    pub name: Option<String>,
}

/// What to do with images.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Build the images of a topology, or a built-in one, that are not built yet
    Build {
        /// A topology file, the name of a built-in image such as `small` or `debian`, or a recipe's folder
        #[arg(required_unless_present_any = ["topology", "all"])]
        target: Option<String>,
        /// Only this image of the topology
        image: Option<String>,
        /// The topology
        #[arg(long, value_name = "FILE", conflicts_with = "all")]
        topology: Option<PathBuf>,
        /// Every built-in image
        #[arg(long, conflicts_with = "target")]
        all: bool,
        /// Build anew what is there already
        #[arg(long)]
        force: bool,
    },
    /// Make an image of the tar archive of a system's root (gzip, zstd, xz), or of an OCI layout
    Import {
        /// Its name; a topology uses it by `images: {NAME: {recipe: imported}}`
        name: String,
        /// The archive, or the layout's folder or archive
        path: PathBuf,
        /// The first process with its arguments [default: what the image says, or /sbin/init]
        #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
        init: Vec<String>,
        /// Most octets that it may unpack to, in GiB
        #[arg(long, value_name = "GIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1024))]
        max_size: u64,
    },
    /// Make an image of a container: what it started from and what was changed in it since
    Capture {
        /// Its name; a topology uses it by `images: {NAME: {recipe: imported}}`
        name: String,
        /// A container that runs, by the name of its host, or a folder with an overlay's `upper` in it
        #[arg(long, value_name = "CONTAINER|DIR")]
        from: String,
        /// The image that it started from, for a folder
        #[arg(long, value_name = "IMAGE")]
        upon: Option<String>,
    },
    /// List the images of this machine
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove builds that newer ones have taken the place of and nothing uses
    Prune {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove an image
    Rm {
        /// Its name
        image: String,
    },
}

/// Builds, lists and removes images.
pub fn run(args: Args) -> miette::Result<ExitCode> {
    match args.command {
        Command::Build { target, image, topology, all, force } => {
            let images = match (topology, target) {
                _ if all => RECIPES.map(built_in).to_vec(),
                (Some(file), only) => of_topology(&file, only.or(image).as_deref())?,
                (None, Some(name)) if image.is_none() && RECIPES.contains(&name.as_str()) => vec![built_in(&name)],
                (None, Some(folder)) if image.is_none() && Path::new(&folder).is_dir() => vec![of_folder(&folder)?],
                (None, Some(file)) => of_topology(Path::new(&file), image.as_deref())?,
                (None, None) => vec![],
            };
            build(&args.state_dir, &images, force)
        }
        Command::Import { name, path, init, max_size } => {
            let state_dir = ready(&args.state_dir)?;
            let limits = Limits { octets: max_size << 30, ..Limits::default() };
            let progress = Progress::stderr();
            report(import::import(&state_dir, &name, &path, &init, limits, &progress), &progress)
        }
        Command::Capture { name, from, upon } => {
            let state_dir = ready(&args.state_dir)?;
            let overlay = import::find_overlay(&state_dir, &from, upon.as_deref());
            let overlay = overlay.map_err(|error| miette::miette!("{error}"))?;
            let progress = Progress::stderr();
            report(import::capture(&state_dir, &name, &overlay, Limits::default(), &progress), &progress)
        }
        Command::Ls { json } => list(&args.state_dir, json),
        Command::Prune { dry_run } => prune(&args.state_dir, dry_run),
        Command::Rm { image } => match image::remove(&args.state_dir, &image) {
            Ok(0) => Err(miette::miette!("there is no image `{image}` in {}", args.state_dir.display())),
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(miette::miette!("{error}")),
        },
    }
}

/// Runs as the process that reads what is brought.
pub fn import_entry(_args: ImportEntry) -> miette::Result<ExitCode> {
    import::worker::main().map_err(|error| miette::miette!("{error}"))?;
    Ok(ExitCode::SUCCESS)
}

fn built_in(name: &str) -> ImageConfig {
    ImageConfig::plain(name)
}

/// The image of a recipe's folder, under the folder's name: to try a recipe before a topology uses it.
fn of_folder(folder: &str) -> miette::Result<ImageConfig> {
    let path = std::fs::canonicalize(folder).map_err(|error| miette::miette!("{folder}: {error}"))?;
    let name = path.file_name().and_then(|name| name.to_str());
    match (name, path.to_str()) {
        (Some(name), Some(recipe)) => {
            Ok(ImageConfig { name: name.into(), recipe: recipe.into(), ..ImageConfig::default() })
        }
        _ => Err(miette::miette!("{folder}: an image is named after its folder, whose path has to be UTF-8")),
    }
}

fn of_topology(file: &Path, only: Option<&str>) -> miette::Result<Vec<ImageConfig>> {
    let mut images =
        topology::open(file, &super::OsDb { os_db: std::env::var_os("HONEYWEAVE_OS_DB").map(Into::into) }.options())?
            .plan
            .images;
    if let Some(only) = only {
        let names: Vec<String> = images.iter().map(|image| image.name.clone()).collect();
        images.retain(|image| image.name == only);
        if images.is_empty() {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(miette::miette!("{} has no image `{only}`; it has {names}", file.display()));
        }
    }
    Ok(images)
}

/// The state directory, by a path that containers can be told of whatever their working directory is.
fn ready(state_dir: &Path) -> miette::Result<PathBuf> {
    std::fs::create_dir_all(state_dir)
        .map_err(|error| miette::miette!("cannot create {}: {error}", state_dir.display()))?;
    std::path::absolute(state_dir).map_err(|error| miette::miette!("{error}"))
}

/// Says what was imported and what was left out.
fn report(imported: Result<Imported, ImageError>, progress: &Progress) -> miette::Result<ExitCode> {
    let Imported { image, tally, user } = imported.map_err(|error| miette::miette!("{error}"))?;
    let name = &image.manifest.name;
    for (count, what) in [(tally.devices, "device nodes"), (tally.others, "sockets and FIFOs")] {
        if count > 0 {
            progress.done(name, &format!("{count} {what} were left out"));
        }
    }
    if let Some(user) = user {
        let user: String = user.chars().filter(|c| !c.is_control()).take(64).collect();
        progress.done(name, &format!("its first process will run as root and not as `{user}`"));
    }
    super::print(&format!("{name} {}\n", image.dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn build(state_dir: &Path, images: &[ImageConfig], force: bool) -> miette::Result<ExitCode> {
    let state_dir = ready(state_dir)?;
    let progress = Progress::stderr();
    for config in images {
        let built = image::build(&state_dir, config, force, &progress);
        let image = built.map_err(|error| miette::miette!("image `{}`: {error}", config.name))?;
        super::print(&format!("{} {}\n", config.name, image.dir.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(state_dir: &Path, dry: bool) -> miette::Result<ExitCode> {
    let pruned = image::prune(state_dir, dry).map_err(|error| miette::miette!("{error}"))?;
    let mut text = String::new();
    for (images, what) in
        [(&pruned.removed, if dry { "would be removed" } else { "removed" }), (&pruned.used, "kept: in use")]
    {
        for image in images {
            let (manifest, size) = (&image.manifest, image.manifest.size / 1_000_000);
            text += &format!("{} {}  {size} MB  {what}\n", manifest.name, manifest.hash);
        }
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn list(state_dir: &Path, json: bool) -> miette::Result<ExitCode> {
    let images = image::list(state_dir);
    if json {
        let manifests: Vec<_> = images.iter().map(|image| &image.manifest).collect();
        let text = serde_json::to_string_pretty(&manifests).map_err(|error| miette::miette!("{error}"))?;
        super::print(&format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = images.iter().map(|image| image.manifest.name.len()).max().unwrap_or(4).max(4);
    let mut text = format!("{:width$}  {:11}  {:16}  {:>8}  SERVICES\n", "NAME", "RECIPE", "HASH", "SIZE");
    for image::Image { manifest, .. } in &images {
        let size = format!("{} MB", manifest.size / 1_000_000);
        let services: Vec<String> = manifest.services.iter().map(image::Service::to_string).collect();
        let (name, recipe, hash) = (&manifest.name, &manifest.recipe, &manifest.hash);
        text += &format!("{name:width$}  {recipe:11}  {hash:16}  {size:>8}  {}\n", services.join(" "));
    }
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
