let
  # A set of files is the list of the paths in it; a folder includes everything below it.
  toFileset =
    value:
    if builtins.isPath value then
      if builtins.pathExists value then
        { fileset = [ (toString value) ]; }
      else
        throw "lib.fileset: ${toString value} does not exist (a flake sees only what git tracks)"
    else if value ? fileset then
      { inherit (value) fileset; }
    else
      throw "nixpkgs-standin: lib.fileset takes paths and file sets, not ${builtins.typeOf value}";

  linux = [
    "x86_64-linux"
    "aarch64-linux"
  ];
  darwin = [ "aarch64-darwin" ];
in
rec {
  genAttrs =
    names: f:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );

  inherit (builtins) attrValues concatStringsSep mapAttrs;

  getAttrs =
    names: set:
    builtins.intersectAttrs (builtins.listToAttrs (
      map (name: {
        inherit name;
        value = null;
      }) names
    )) set;

  isDerivation = value: builtins.isAttrs value && value.type or null == "derivation";

  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  optionalAttrs = condition: attrs: if condition then attrs else { };

  importTOML = path: builtins.fromTOML (builtins.readFile path);

  getExe =
    package:
    if isDerivation package then
      "${package}/bin/${package.meta.mainProgram}"
    else
      throw "nixpkgs-standin: lib.getExe takes a package, not ${toString (builtins.attrNames package)}";

  licenses.mit.spdxId = "MIT";
  platforms = {
    inherit linux;
    all = linux ++ darwin;
  };

  # Adds two attributes to any set that a function returns, also to one of packages.
  makeOverridable =
    function: arguments:
    let
      result = function arguments;
      overrideWith = new: arguments // (if builtins.isFunction new then new arguments else new);
    in
    if builtins.isAttrs result then
      result
      // {
        override.__functor = _: new: makeOverridable function (overrideWith new);
        overrideDerivation = throw "nixpkgs-standin: overrideDerivation exists and does nothing here";
      }
    else
      result;

  callPackageWith =
    found: file: overrides:
    let
      function = import file;
    in
    makeOverridable function (
      builtins.intersectAttrs (builtins.functionArgs function) found // overrides
    );

  callPackagesWith =
    found: file: overrides:
    let
      function = import file;
      arguments = builtins.intersectAttrs (builtins.functionArgs function) found // overrides;
      result = function arguments;
    in
    if isDerivation result then
      throw "nixpkgs-standin: ${toString file} returns one package: use callPackage"
    else
      builtins.mapAttrs (name: _: makeOverridable (new: (function new).${name}) arguments) result;

  fileset = {
    unions = sets: { fileset = builtins.concatMap (set: (toFileset set).fileset) sets; };
    fromSource = toFileset;

    toSource =
      { root, fileset }:
      let
        files = toFileset fileset;
        within = folder: path: builtins.substring 0 (builtins.stringLength folder + 1) path == "${folder}/";
        wanted =
          path: _type:
          builtins.any (file: path == file || within file path || within path file) files.fileset;
      in
      files
      // {
        outPath = builtins.path {
          name = "source";
          path = root;
          filter = wanted;
        };
      };
  };
}
