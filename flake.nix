{
  description = "Stockroom: an inventory service with exact stock, and a container image that holds nothing but its binary";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      linuxSystems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forSystems = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      forLinux = forSystems linuxSystems;
      forDevelopers = forSystems (linuxSystems ++ [ "aarch64-darwin" ]);

      packagesFor = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
      scriptsFor =
        pkgs:
        pkgs.callPackages ./nix/apps.nix {
          inherit (packagesFor pkgs)
            digest
            image
            image-oci
            sbom-referrer
            ;
        };
    in
    {
      overlays.default = final: _prev: {
        stockroom = final.callPackage ./nix/package.nix { };
      };

      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./nix/module.nix ];
          services.stockroom.package = lib.mkDefault (packagesFor pkgs).stockroom;
        };

      packages = forLinux (
        pkgs:
        let
          stockroom = pkgs.callPackage ./nix/package.nix { };
          image = pkgs.callPackage ./nix/image.nix { inherit stockroom; };
          sbom = pkgs.callPackage ./nix/sbom.nix { inherit stockroom; };
          oci = pkgs.callPackage ./nix/oci.nix { inherit image sbom; };
        in
        {
          default = stockroom;
          inherit stockroom image sbom;
          image-oci = oci.layout;
          inherit (oci) digest;
          sbom-referrer = oci.referrer;
          # Needs a builder of each architecture.
          image-index = oci.index {
            layouts = map (system: self.packages.${system}.image-oci) linuxSystems;
            created = self.lastModifiedDate;
            revision = self.rev or "dirty";
          };
        }
        # A package and not a check, because `nix flake check` would fail on builders without KVM.
        // lib.optionalAttrs (pkgs ? testers) {
          vm-test = pkgs.testers.runNixOSTest (import ./nix/test.nix { module = self.nixosModules.default; });
        }
      );

      apps = forLinux (
        pkgs:
        let
          app = package: description: {
            type = "app";
            program = lib.getExe package;
            meta = { inherit description; };
          };
          inherit (packagesFor pkgs) stockroom;
        in
        {
          default = app stockroom "Serve the inventory on 127.0.0.1:8080, from ./stockroom.db";
        }
        // lib.mapAttrs (_name: script: app script script.meta.description) (scriptsFor pkgs)
      );

      devShells = forDevelopers (pkgs: pkgs.callPackages ./nix/shells.nix { });

      formatter = forDevelopers (pkgs: pkgs.nixfmt-tree);

      checks = forLinux (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          packages = packagesFor pkgs;
          scripts = scriptsFor pkgs;
        }
      );
    };
}
