//! Decision table T6, row 2, and the first row of T8: whether a workload's containers have the image of
//! the commit. The deploy adapter for Kubernetes calls it for every kind of workload.
//!
//! | # | fact | result |
//! | --- | --- | --- |
//! | 1 | the expected tag names no commit (`main`, `latest`) | OTHER: any build could have it |
//! | 2 | the named container is an init container, or missing | OTHER |
//! | 3 | the named container, or without a name every container, has the commit's image | MATCHES |
//! | 4 | the same, but one or more have the image of a commit that contains it | NEWER |
//! | 5 | without a name, some containers have it and others don't | OTHER: a sidecar proves nothing about the app |
//! | 6 | otherwise | OTHER |
//!
//! Init containers never count: they end before the app starts.

/// The relation of a workload's image to the commit that is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The expected image, by tag or digest.
    Matches,
    /// The image of a later commit, which contains the deployed one.
    Newer,
    /// An image of an unrelated or older commit, for this reason.
    Other(String),
}

/// The relation of one container's image to the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is the commit's image.
    Matches,
    /// It is the image of a later commit, which contains the deployed one.
    Newer,
    /// It is another image.
    Other,
}

/// A container of a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateContainer {
    /// The name in the template.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// The relation of its image to the commit.
    pub relation: Relation,
}

/// The expected image of a workload, as the repository configures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedImage<'a> {
    /// The tag or digest as it is configured, with its placeholders.
    pub tag: &'a str,
    /// The container whose image names the commit, where one is named.
    pub container: Option<&'a str>,
}

impl ExpectedImage<'_> {
    /// Whether the tag names a commit at all.
    #[must_use]
    pub fn names_a_commit(&self) -> bool {
        ["{sha}", "{sha8}", "{sha7}"].iter().any(|place| self.tag.contains(place))
    }
}

/// Applies the table to a pod template.
#[must_use]
pub fn relation(containers: &[TemplateContainer], expected: ExpectedImage<'_>) -> Image {
    let other = |why: String| Image::Other(why);
    if !expected.names_a_commit() {
        let tag = expected.tag;
        return other(format!("the tag {tag} names no commit: use {{sha}}, {{sha8}} or {{sha7}}"));
    }
    if let Some(wanted) = expected.container {
        return match containers.iter().find(|container| container.name == wanted) {
            None => other(format!("it has no container {wanted}")),
            Some(container) if container.init => {
                other(format!("{wanted} is an init container, which proves nothing about the app"))
            }
            Some(container) => match container.relation {
                Relation::Matches => Image::Matches,
                Relation::Newer => Image::Newer,
                Relation::Other => other(ANOTHER.into()),
            },
        };
    }
    let apps: Vec<&TemplateContainer> = containers.iter().filter(|c| !c.init).collect();
    let old = apps.iter().find(|container| container.relation == Relation::Other);
    let has = |relation| apps.iter().any(|container| container.relation == relation);
    match old {
        _ if apps.is_empty() => other("it has no containers".into()),
        Some(old) if has(Relation::Matches) || has(Relation::Newer) => other(format!(
            "its container {} has another image: name the app's with `container`",
            old.name
        )),
        Some(_) => other(ANOTHER.into()),
        None if has(Relation::Newer) => Image::Newer,
        None => Image::Matches,
    }
}

/// The reason where a workload simply has another image.
const ANOTHER: &str = "has another image";

#[cfg(test)]
mod tests {
    use super::*;

    const SHA8: &str = "{sha8}";

    fn container(name: &str, relation: Relation) -> TemplateContainer {
        TemplateContainer { name: name.into(), init: false, relation }
    }

    #[test]
    fn relation_follows_every_row() {
        use Relation::{Matches, Newer, Other};
        let app = |relation| container("app", relation);
        let sidecar = |relation| container("sidecar", relation);
        let init = |relation| TemplateContainer { init: true, ..container("migrate", relation) };
        let of =
            |containers: &[TemplateContainer], tag: &str, container: Option<&str>| match relation(
                containers,
                ExpectedImage { tag, container },
            ) {
                Image::Matches => "matches".to_owned(),
                Image::Newer => "newer".to_owned(),
                Image::Other(why) => why,
            };
        let any = |containers: &[TemplateContainer]| of(containers, SHA8, None);
        let named = |containers: &[TemplateContainer], name| of(containers, SHA8, Some(name));
        for tag in ["main", "latest", "v1", "sha256:aa"] {
            let why = format!("the tag {tag} names no commit: use {{sha}}, {{sha8}} or {{sha7}}");
            assert_eq!(of(&[app(Matches)], tag, None), why, "1");
            assert_eq!(of(&[app(Matches)], tag, Some("app")), why, "1");
        }
        let why = "migrate is an init container, which proves nothing about the app";
        assert_eq!(named(&[init(Matches), app(Other)], "migrate"), why, "2");
        assert_eq!(named(&[app(Matches)], "web"), "it has no container web", "2");
        assert_eq!(named(&[app(Matches), sidecar(Other)], "app"), "matches", "3");
        assert_eq!(named(&[app(Newer), sidecar(Other)], "app"), "newer", "4");
        assert_eq!(named(&[app(Other), sidecar(Matches)], "app"), "has another image", "6");
        assert_eq!(any(&[app(Matches), sidecar(Matches), init(Other)]), "matches", "3");
        assert_eq!(any(&[app(Matches), sidecar(Newer)]), "newer", "4");
        for relation in [Matches, Newer] {
            let why = "its container app has another image: name the app's with `container`";
            assert_eq!(any(&[app(Other), sidecar(relation)]), why, "5");
        }
        assert_eq!(any(&[app(Other)]), "has another image", "6");
        assert_eq!(any(&[app(Other), init(Matches)]), "has another image", "6");
        assert_eq!(any(&[]), "it has no containers", "6");
    }
}
