# The apps of `nix run` beside the service itself.
{
  writeShellApplication,
  gzip,
  skopeo,
  digest,
  image,
  image-oci,
  sbom-referrer,
}:

{
  load = writeShellApplication {
    name = "stockroom-load";
    meta.description = "Load the image into Docker or, where there is none, into podman";
    runtimeInputs = [ gzip ];
    # Docker would read it compressed, too; podman 4.3 would not.
    text = ''
      engine=docker
      command -v docker > /dev/null || engine=podman
      gzip --decompress --stdout ${image} | "$engine" load
    '';
  };

  # Nothing may change on the way: the digest that the registry has is the one that was built.
  push = writeShellApplication {
    name = "stockroom-push";
    meta.description = "Push the image and its bill of materials to a registry: REFERENCE [OPTION OF SKOPEO COPY...]";
    runtimeInputs = [ skopeo ];
    text = ''
      if [ $# = 0 ]; then
        echo "usage: stockroom-push REGISTRY/NAME[:TAG] [OPTION OF SKOPEO COPY...]" >&2
        exit 2
      fi
      reference=$1
      shift
      digest=$(cat ${digest})
      name=$reference
      # A colon before the last slash is the one of a port.
      if [[ ''${reference##*/} = *:* ]]; then name=''${reference%:*}; fi
      skopeo --insecure-policy copy --preserve-digests "$@" oci:${image-oci} "docker://$reference"
      # The list is for registries that keep none of their own; older versions of skopeo rewrite it.
      skopeo --insecure-policy copy --all "$@" oci:${sbom-referrer} "docker://$name:''${digest/:/-}"
      echo "$name@$digest"
    '';
  };

  digest = writeShellApplication {
    name = "stockroom-digest";
    meta.description = "Print the digest that the image has in every registry";
    runtimeInputs = [ ];
    text = ''
      cat ${digest}
    '';
  };
}
