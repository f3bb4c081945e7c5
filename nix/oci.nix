{
  runCommand,
  python3,
  zopfli,
  image,
  sbom,
}:

let
  write =
    name: arguments:
    runCommand name
      {
        nativeBuildInputs = [
          python3
          zopfli
        ];
      }
      ''
        python3 ${./oci.py} ${arguments}
      '';

  # As registries keep the image, with compressed layers.
  layout = write "stockroom-oci" "image ${image} ${sbom} $out";
in
{
  inherit layout;

  # The digest of the image in every registry, before any push.
  digest = write "stockroom-digest" "digest ${layout} $out";

  referrer = write "stockroom-sbom-referrer" "referrer ${layout} ${sbom} $out";

  # Revision and date are recorded here only: below they would change the digest of what runs the same.
  index =
    {
      created,
      revision,
      layouts,
    }:
    write "stockroom-index" "index ${created} ${revision} $out ${toString layouts}";
}
